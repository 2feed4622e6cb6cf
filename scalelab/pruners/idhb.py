"""Iterative Deepening Hyperband: a maximum resource that can be raised later, with all that was learned below it.

Brandt, Wever, Bengs, Hüllermeier, arXiv:2302.00511. Of its three variants two are here, as its authors' code has them
(mwever/incremental-successive-halving, there ConservativeSuccessiveHalving and EfficientSuccessiveHalving):

- "preserving": after a raise, every configuration that was ever evaluated at a rung is ranked there with the new ones,
  and each that is now among the best 1/η goes on;
- "efficient": those that went on before count as promoted even where they no longer rank so; only what is missing of
  1/η goes on, the best first. It continues fewer.

"Discarding" ranks only those that are still in the list of survivors. An asynchronous study keeps no such list: it is
left out.

**How it maps onto Optuna.** In the paper a bracket starts at a fixed resource r·ηⁱ. A raise by η adds a rung at its top
and the bracket that starts at the new maximum, and fills each bracket up to its new size. Optuna numbers brackets just
so, bracket i being a successive halving from r·ηⁱ, but draws a trial's bracket by a hash whose modulus changes with the
maximum: a raise would shuffle all trials. Here a trial keeps its bracket, and after a raise new trials are drawn to the
brackets in proportion to what each lacks. Optuna's halving is asynchronous (ASHA, arXiv:1810.05934): a run is judged
when it reaches a rung, against those that were there before, and stops for good. After a raise the same rule is asked
again at each `study.ask`, now against all that are there, and a run of the old maximum that passes is continued.

**How it is used.** The pruner and the sampler go together, in every process that asks or tells:

    pruner = IdhbPruner(min_resource=10**6, max_resource=27 * 10**6)
    study = create_study(study_name=…, storage=…, pruner=pruner, sampler=IdhbSampler(TPESampler()), load_if_exists=True)
    trial = study.ask(distributions)
    resumed = trial.user_attrs.get(CONTINUES)  # number of the trial whose run goes on, or None for a new run

A continuation is a new trial, as if enqueued, with the parameters and the reports of the one that it continues. Its
caller resumes that run's checkpoint and goes on to `pruner.max_resource`, reporting only what comes after. So a run
must be one that can go on: a learning rate that has decayed to nothing at the old maximum is no start for a longer run.
"""

import math
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from typing import Any, Literal, get_args

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import HyperbandPruner
from optuna.pruners._successive_halving import _completed_rung_key
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from scalelab.errors import Refused, unknown
from scalelab.pruners.continuing import CONTINUES, PLACE, Bracket, Place, claimed, due, go_on, keep, latest, place_of

Variant = Literal["preserving", "efficient"]


class IdhbPruner(HyperbandPruner):
    """Optuna's Hyperband whose `max_resource` may be larger each time that the study is loaded.

    While it is not raised, all decisions below it are those of `optuna.pruners.HyperbandPruner`, but for the number of
    brackets where that one's logarithm rounds down (243 by 3: five, not six). A run that has reached `max_resource` is
    never pruned, as there is nothing left to save, unless its loss is NaN. A trial told as COMPLETE has reached it.

    Args:
        max_resource: where a run ends, in the unit of the reports' steps, such as tokens.
        min_resource: the lowest rung; it stays.
        reduction_factor: η, of rungs and of how many pass; it stays.
        variant: which runs of the old maximum go on, as the module says.

    Raises:
        Refused: on arguments that cannot be met, and where the study was searched to a larger maximum or other rungs.
    """

    def __init__(
        self, *, max_resource: int, min_resource: int = 1, reduction_factor: int = 3, variant: Variant = "preserving"
    ) -> None:
        if not 1 <= min_resource <= max_resource:
            raise Refused(f"min_resource={min_resource}, max_resource={max_resource}: accepted are 1 ≤ min ≤ max")
        if reduction_factor < 2:
            raise Refused(f"reduction_factor={reduction_factor}: accepted is a whole number of at least 2")
        if variant not in get_args(Variant):
            raise unknown("variant", variant, get_args(Variant))
        super().__init__(min_resource, max_resource, reduction_factor)
        self.max_resource = max_resource
        self._place = Place(
            bracket=0, min_resource=min_resource, reduction_factor=reduction_factor, max_resource=max_resource
        )
        self.efficient = variant == "efficient"
        self._n_brackets = len(self.rungs(0))
        self._sizes = [self._calculate_trial_allocation_budget(bracket) for bracket in range(self._n_brackets)]

    def rungs(self, bracket: int) -> list[int]:
        """The resources at which runs of a bracket are judged or, at `max_resource`, end."""
        rungs, factor = [self._min_resource * self._reduction_factor**bracket], self._reduction_factor
        while rungs[-1] * factor <= self.max_resource:
            rungs.append(rungs[-1] * factor)
        return rungs

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop `trial` now, after its last report."""
        self.place(study, trial)
        pruned = super().prune(study, trial)
        step = trial.last_step
        at_end = step is not None and step >= self.max_resource and not math.isnan(trial.intermediate_values[step])
        return pruned and not at_end

    def place(self, study: Study, trial: FrozenTrial, bracket: int | None = None) -> Place:
        """Where a trial is judged, kept with it from its first time on: in the bracket given, or else in its hash's."""
        if (place := self.check(trial)) is None:
            place = replace(self._place, bracket=self._get_bracket_id(study, trial) if bracket is None else bracket)
            keep(study, trial, {PLACE: asdict(place)})
        return place

    def check(self, trial: FrozenTrial) -> Place | None:
        """A trial's place, if it has one; `Refused` where it is of other rungs or a larger maximum."""
        place, given = place_of(trial), self._place
        if place is None:
            return None
        if place.max_resource > given.max_resource or place.rungs != given.rungs:
            raise Refused(
                f"{given.written}, but trial {trial.number} was asked with {place.written}: "
                "accepted are the same first two, and a maximum at least as large"
            )
        return place

    def record(self, study: Study, trial: FrozenTrial, told: float | None) -> None:
        """Keep what a run that ends had at the rungs that it was not asked at.

        `told` is its value at the maximum, if it came so far: taken where it reported nothing there.
        """
        place, reports = self.place(study, trial), sorted(trial.intermediate_values.items())
        for number, rung in enumerate(self.rungs(place.bracket)):
            is_last = rung <= place.max_resource < rung * self._reduction_factor
            value = next((loss for step, loss in reports if step >= rung), told if is_last else None)
            key = _completed_rung_key(number)
            if key not in trial.system_attrs and value is not None and not math.isnan(value):
                keep(study, trial, {key: value})

    def _get_bracket_id(self, study: Study, trial: FrozenTrial) -> int:
        if (place := place_of(trial)) is not None:
            return place.bracket
        ends = [*accumulate(self._lacking(study))]
        return bisect_right(ends, zlib.crc32(f"{study.study_name}_{trial.number}".encode()) % ends[-1])

    def _lacking(self, study: Study) -> list[int]:
        """How many configurations each bracket lacks in the round under way; before a raise, Optuna's sizes as ever."""
        trials = latest(study._storage.get_all_trials(study._study_id, deepcopy=False))
        placed = [trial for trial in trials if trial.state is not TrialState.FAIL]
        places = [place for place in map(place_of, placed) if place is not None]
        if all(place.max_resource == self.max_resource for place in places) and not any(
            CONTINUES in trial.user_attrs for trial in placed
        ):
            return self._sizes
        have = Counter(place.bracket for place in places)
        rounds = 1 + len(places) // sum(self._sizes)
        return [max(0, rounds * size - have[bracket]) for bracket, size in enumerate(self._sizes)]

    def _create_bracket_study(self, study: Study, bracket_id: int) -> Study:
        return Bracket(study, self, bracket_id)


class IdhbSampler(BaseSampler):
    """The sampler of the pair: a trial continues one of the old maximum where one is due, or else asks `sampler`.

    `sampler` is any of Optuna's or ours. It is shown the trials of the bracket that the new one is in, each
    configuration by its latest. A trial that was enqueued stays what it was enqueued for.

    Raises:
        Refused: in a study whose pruner is no IdhbPruner, or as that one does.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        self.inner = sampler

    def __str__(self) -> str:
        return str(self.inner)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        pruner = _pruner(study)
        trials: Sequence[FrozenTrial] = study._storage.get_all_trials(study._study_id, deepcopy=False)
        for other in trials:
            pruner.check(other)
        waiting = due(trials, pruner.max_resource, study.direction, efficient=pruner.efficient)
        enqueued = "fixed_params" in trial.system_attrs
        if waiting and not enqueued and claimed(study, trial, waiting[0]):
            pruner.place(study, trial, pruner.place(study, waiting[0]).bracket)
            go_on(study, trial, waiting[0])
        else:
            pruner.place(study, trial)
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        if state in (TrialState.COMPLETE, TrialState.PRUNED):
            told = values[0] if values and state is TrialState.COMPLETE else None
            _pruner(study).record(study, trial, told)
        self.inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self.inner.reseed_rng()


def _pruner(study: Study) -> IdhbPruner:
    if len(study.directions) > 1:
        raise Refused(f"study {study.study_name!r} has {len(study.directions)} objectives: Hyperband takes one")
    if not isinstance(study.pruner, IdhbPruner):
        raise Refused(
            f"IdhbSampler goes with an IdhbPruner, not with {type(study.pruner).__name__}: try "
            "create_study(pruner=IdhbPruner(max_resource=…), sampler=IdhbSampler(…))"
        )
    return study.pruner
