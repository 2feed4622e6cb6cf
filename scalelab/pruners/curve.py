"""Stopping by learning curves at a stated risk: a conformal bound on how far a loss still falls."""

import math
from collections.abc import Sequence

from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from scalelab.errors import Refused


class CurvePruner(BasePruner):
    """Stops a run whose loss, less all that it may still fall, is above the best final loss of the study.

    Split conformal prediction (Vovk, Gammerman, Shafer 2005; arXiv:1604.04173 section 2.2), with no model of the curve.
    At a rung t, n calibration trials say how far a loss falls from there: dᵢ = lossᵢ(t) − lossᵢ(end). The bound is the
    ⌈(n + 1)(1 − risk/m)⌉-th smallest of them, m being the number of rungs (Bonferroni). A run is stopped if and only if
    loss(t) − bound > the smallest final loss known.

    **What the risk is.** A stop is wrong where the run would have ended below the best that was known when it was
    stopped. Its fall is then above the bound. So if the falls of the calibration trials and of this run are
    exchangeable, the chance that a run is stopped wrongly at any of its rungs is at most `risk`. It is a chance over
    the calibration trials and the run together: where the calibration trials are unlucky, all runs have a larger one.

    **Who calibrates.** The first `min_trials` trials that are told at the horizon. A trial can be stopped only after
    that many with smaller numbers have ended: no calibration trial could have been stopped itself, whereas later ones
    are survivors of this pruner's choice, and would make the bound too small. A trial that ended at an infinite loss
    calibrates too: it falls by −∞. With fewer trials nothing is stopped, nor where fewer than the bound asks for have
    reported at the step.

    **What breaks it.** A search that adapts: later runs are drawn elsewhere than the first ones (draw the first
    `min_trials` at random, and take the risk as a guide). A learning-rate schedule that is not the same fraction of the
    horizon in every trial: the fall after t is mostly the decay's. Trials of several horizons in a study. A fall that
    depends on the parameters, such as the learning rate: the risk then holds on average over them, and not for each.

    A loss that is NaN stops a run at once, whatever is known: the weights don't come back. An infinite one is a number.

    Reports are losses in nats, at a step in tokens; the final loss is what the trial is told. A run is judged at its
    first report at or after a rung, against the calibration trials that reported at that very step. Reports may come in
    any order and be missing: what can't be compared is not stopped.

    Args:
        risk: the chance to stop a run that would have been the best, above 0 and below 1.
        rungs: where a run is judged, as fractions of the horizon, above 0 and below 1.
        min_trials: how many trials calibrate, at least m/risk − 1; the least where left out (19 at the usual settings).
        horizon: tokens of a full run; the largest final step of a trial that ended where left out.

    Raises:
        Refused: on arguments that cannot be met, and from `should_prune` in a study that maximises.
    """

    def __init__(
        self,
        *,
        risk: float = 0.05,
        rungs: Sequence[float] = (0.5,),
        min_trials: int | None = None,
        horizon: int | None = None,
    ) -> None:
        if not 0 < risk < 1:
            raise Refused(f"risk={risk}: accepted is a chance above 0 and below 1, such as 0.05")
        if not rungs or not all(0 < rung < 1 for rung in rungs) or len(set(rungs)) < len(rungs):
            raise Refused(f"rungs={list(rungs)}: accepted are different fractions of the horizon above 0 and below 1")
        if horizon is not None and horizon < 1:
            raise Refused(f"horizon={horizon}: accepted are the tokens of a full run, or None")
        least = math.ceil(len(rungs) / risk * (1 - 1e-12)) - 1  # m/risk whole, but for rounding
        if min_trials is not None and min_trials < least:
            raise Refused(
                f"min_trials={min_trials}: accepted are at least {least} for a risk of {risk} at {len(rungs)} rungs;"
                " with fewer trials there is no bound"
            )
        self._level = 1 - risk / len(rungs)
        self._rungs = tuple(sorted(rungs))
        self._min_trials = least if min_trials is None else min_trials
        self._horizon = horizon

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop `trial` now, after its last report."""
        if study.direction is not StudyDirection.MINIMIZE:
            raise Refused(f"study {study.study_name!r} maximizes: CurvePruner reads losses, which are minimized")
        if (step := trial.last_step) is None:
            return False
        if math.isnan(loss := trial.intermediate_values[step]):
            return True
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        horizon = self._horizon or max((other.last_step or 0 for other in ended), default=0)
        if not self._is_rung(trial, step, horizon):
            return False
        full = sorted((other for other in ended if other.last_step == horizon), key=lambda other: other.number)
        calibrating = [other for other in full if other.number < trial.number][: self._min_trials]
        drops = [_drop(other, step) for other in calibrating if step in other.intermediate_values]
        if len(calibrating) < self._min_trials or (bound := self._bound(drops)) is None:
            return False
        best: float = min(other.values[0] for other in full)
        return loss - bound > best

    def _is_rung(self, trial: FrozenTrial, step: int, horizon: int) -> bool:
        """Whether the last report is the first at or after one of the rungs, and not the end."""
        before = max((other for other in trial.intermediate_values if other < step), default=-1)
        return step < horizon and any(before < math.ceil(r * horizon * (1 - 1e-12)) <= step for r in self._rungs)

    def _bound(self, drops: Sequence[float]) -> float | None:
        rank = math.ceil((len(drops) + 1) * self._level * (1 - 1e-12))
        return sorted(drops)[rank - 1] if rank <= len(drops) else None


def _drop(trial: FrozenTrial, step: int) -> float:
    """How far a loss fell from `step` to the end, in nats: −∞ where it ended at ∞, +∞ where it came back from NaN."""
    start, end = trial.intermediate_values[step], float(trial.values[0])
    if end == math.inf:
        return -math.inf
    return math.inf if math.isnan(start) else start - end
