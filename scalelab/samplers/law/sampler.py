"""An Optuna sampler that fits the scaling law as it searches, and recommends a setting for a target it never ran.

sampler = LawSampler(scales=["N", "D"], target={"N": 7e9, "D": 1e12}, cost=lambda p: 6 * p["N"] * p["D"])
study = optuna.create_study(sampler=sampler)
study.optimize(objective, n_trials=60)
sampler.recommend(study)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from scalelab.errors import Refused, unknown
from scalelab.parametrizations import table
from scalelab.samplers.attributes import PHASE, announce, mark
from scalelab.samplers.evidence import common_space, evidence
from scalelab.samplers.law import choice
from scalelab.samplers.law.belief import Runs, outlook
from scalelab.samplers.law.coordinates import Coordinates, Cost, Spots
from scalelab.samplers.law.opening import independent, opening
from scalelab.samplers.law.recommendation import Recommendation, recommendation
from scalelab.samplers.law.scales import considered
from scalelab.samplers.law.target import spots_of

OVERHEAD = 1e-3  # of the target's cost: what a run costs beside its FLOPs, where it is not said
RECOMMENDING = 1 << 40  # in place of a trial's number


class LawSampler(BaseSampler):
    """Chooses the run that says most about the target per FLOP.

    Args:
        scales: the parameters that set the scale of a run, as "N" and "D", or "width" and "tokens"; none where all
            runs are of the target's scale.
        target: where a setting is wanted, by scale. A scale that is left out is free: with {"C": 1e22} the best N of
            that compute is recommended too.
        cost: FLOPs of a run with given parameters, of which it reads the scales; `bind` gives it later.
        sizes: what the loss falls with, each a monomial of the scales up to a factor, where they are not the scales
            themselves: {"params": {"N": 1}, "tokens": {"C": 1, "N": -1}}.
        start: an ordinary recipe, by parameter: where the search begins; the middles of the ranges where left out.
        parametrization: a table whose claims are believed: under "mup" the best base learning rate stays where it is
            as the width grows, as far as the runs do not contradict.
        priors: (mean, sd) of parameters of the law, as {"lr ~ tokens": (-0.3, 0.2)}, in place of the literature's.
        cap_flops: no run costs more; where left out, an eighth of the target's cost, or a quarter of what was spent.
        budget_flops: what all runs may cost.
        overhead_flops: what a run costs beside its FLOPs, its start and its place in the queue: the larger, the fewer
            and dearer are the runs that are chosen. With so many runs and so much compute to spend, it is their ratio.
            A thousandth of the target's cost where left out.
        seed: suggestions are the same for the same trials, in any process; None draws one.

    All comes from the study's trials: a killed study resumes, any number of workers may suggest. A trial says how it
    was chosen in its system attribute "scalelab:phase" (opening, law, guard). How trials are read: `evidence`.

    Raises:
        Refused: on arguments that are none.
    """

    def __init__(
        self,
        *,
        scales: Sequence[str],
        target: Mapping[str, float],
        cost: Cost | None = None,
        sizes: Mapping[str, Mapping[str, float]] | None = None,
        start: Mapping[str, Any] | None = None,
        parametrization: str | None = None,
        priors: Mapping[str, Sequence[float]] | None = None,
        cap_flops: float | None = None,
        budget_flops: float | None = None,
        overhead_flops: float | None = None,
        seed: int | None = None,
    ) -> None:
        if isinstance(scales, str) or len(set(scales)) < len(scales):
            raise Refused(f"scales={scales!r}: accepted is a list of parameters, each once")
        for name, flops in (("cap_flops", cap_flops), ("budget_flops", budget_flops)):
            if flops is not None and not flops > 0:
                raise Refused(f"{name}={flops}: accepted is a positive number")
        if overhead_flops is not None and not overhead_flops >= 0:
            raise Refused(f"overhead_flops={overhead_flops}: accepted is a number from 0")
        if seed is not None and (seed < 0 or int(seed) != seed):
            raise Refused(f"seed={seed}: accepted is a whole number from 0")
        if parametrization is not None:
            table(parametrization)  # refuses what is none
        self.scales, self.target, self.start = tuple(scales), dict(target), dict(start or {})
        self.sizes = {name: dict(of) for name, of in (sizes or {name: {name: 1.0} for name in scales}).items()}
        self.parametrization = parametrization
        self.priors = {name: _pair(name, given) for name, given in (priors or {}).items()}
        self.cap_flops, self.budget_flops, self.overhead_flops = cap_flops, budget_flops, overhead_flops
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else int(seed)
        self._cost = cost
        self._laid_out: tuple[dict[str, BaseDistribution], Coordinates, Spots, Spots] | None = None

    def bind(self, *, cost: Cost) -> None:
        """Give the cost of a run, where who makes the sampler does not know it."""
        self._cost, self._laid_out = cost, None

    def check(self, distributions: Mapping[str, BaseDistribution]) -> None:
        """Refuse scales, a target, sizes and a start that do not fit the parameters of a study, before it is begun."""
        self._layout(dict(distributions))

    def reseed_rng(self) -> None:
        """Nothing to do: a suggestion's randomness comes from the seed and the trial's number."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What the trials so far have in common."""
        return self._space([other for other in study.get_trials(deepcopy=False) if other.number != trial.number])

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next run's parameters; none before a first trial has said what they are."""
        if study.directions[0] is not StudyDirection.MINIMIZE:
            raise Refused(f"study {study.study_name!r} is maximised: accepted is a loss, which is minimised")
        if not search_space:
            return {}
        coordinates, spots, target = self._layout(search_space)
        trials = study.get_trials(deepcopy=False)
        runs = Runs.of(evidence(trials, search_space), coordinates)
        left = np.inf if self.budget_flops is None else self.budget_flops - runs.spent
        cheapest = float(spots.cost_M.min())
        cap = np.inf if self.cap_flops is None else self.cap_flops
        if cap < cheapest:
            raise Refused(f"cap_flops={cap:.3g}: the cheapest run of the space costs {cheapest:.3g}, give that or more")
        if left < cheapest:
            raise Refused(
                f"budget_flops={self.budget_flops:.3g} is spent: {runs.spent:.3g} FLOPs in {len(trials)} trials;"
                " recommend(study) says what was found"
            )
        affordable = spots[np.flatnonzero(spots.cost_M <= min(cap, left))]
        chosen = opening(coordinates, affordable, runs, self.start, trial.number, self._seed)
        if chosen is None:
            rng = np.random.default_rng([self._seed, trial.number])
            guarded = sum(
                coordinates.cost(t.params) for t in trials
                if t.system_attrs.get(PHASE) == "guard" and all(name in t.params for name in self.scales)
            )  # fmt: skip
            belief = outlook(runs, coordinates, self.start, self.parametrization, self.priors, rng)
            most = choice.allowed(runs, float(target.cost_M.max()), spots, self.cap_flops, left)
            overhead = OVERHEAD * float(target.cost_M.max()) if self.overhead_flops is None else self.overhead_flops
            chosen = choice.search(belief, spots, target, runs, most, guarded, overhead, rng)
        mark(study, trial, chosen.phase, chosen.why)
        announce(study, trial, chosen.params, {name: search_space[name] for name in chosen.params})
        return dict(chosen.params)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The start's value, or about it after the first trial: of the opening, and of what not all trials have."""
        _check_start(self.start, {param_name: param_distribution})
        return independent(
            param_name, param_distribution, self.start, scale=param_name in self.scales,
            rng=np.random.default_rng([self._seed, trial.number, *param_name.encode()]), first=trial.number == 0,
        )  # fmt: skip

    def recommend(self, study: Study) -> Recommendation:
        """The best setting at the target by all that the study's trials say.

        Raises:
            Refused: where no trial has ended well.
        """
        trials = study.get_trials(deepcopy=False)
        space = self._space(trials)
        if not space:
            raise Refused(f"study {study.study_name!r} has no trials with parameters in common: run some first")
        coordinates, _, target = self._layout(space)
        runs = Runs.of(evidence(trials, space), coordinates)
        if not len(runs.loss_N):
            raise Refused(f"study {study.study_name!r} has no trial that ended well: run more, from a lower lr")
        rng = np.random.default_rng([self._seed, RECOMMENDING])
        belief = outlook(runs, coordinates, self.start, self.parametrization, self.priors, rng, judged=True)
        return recommendation(belief, target, runs, rng)

    def _space(self, trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
        """What all trials that ended have in common; before there is one, those that failed or run, as a first run may
        diverge, if they came as far as to ask for their scale."""
        ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        return common_space(ended or [t for t in trials if all(name in t.distributions for name in self.scales)])

    def _layout(self, space: dict[str, BaseDistribution]) -> tuple[Coordinates, Spots, Spots]:
        """Coordinates, the scales considered and the target's: made once for a space."""
        if self._cost is None:
            raise Refused("what a run costs is not known: give cost=lambda params: FLOPs")
        if self._laid_out is None or self._laid_out[0] != space:
            coordinates = Coordinates.of(space, scales=self.scales, cost=self._cost, sizes=self.sizes)
            for name in self.start:
                if name not in space:
                    raise unknown("parameter in start", name, space)
            self._laid_out = space, coordinates, considered(coordinates), spots_of(coordinates, self.target)
        return self._laid_out[1:]


def _check_start(start: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> None:
    for name, its in space.items():
        if name in start and not _holds(its, start[name]):
            raise Refused(f"start {name}={start[name]!r} is outside its bounds: accepted is {its}")


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:  # none of the choices, or no number
        return False


def _pair(name: str, given: Sequence[float]) -> tuple[float, float]:
    try:
        mean, sd = (float(value) for value in given)
    except (TypeError, ValueError):
        raise Refused(f"prior {name}={given!r}: accepted is a pair, mean and standard deviation") from None
    return mean, sd
