"""CARBS as an Optuna sampler: for studies that minimise (loss, cost)."""

import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers._base import _process_constraints_after_trial
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial, TrialState

from scalelab.errors import Refused, unknown
from scalelab.samplers.attributes import PHASE, announce, mark, read, write
from scalelab.samplers.carbs.candidates import drawn
from scalelab.samplers.carbs.known import known
from scalelab.samplers.carbs.recommended import recommended
from scalelab.samplers.carbs.settings import Settings
from scalelab.samplers.carbs.suggestion import suggestion
from scalelab.samplers.carbs.surrogates import Fit
from scalelab.samplers.evidence import Outcome, check_directions, common_space, evidence
from scalelab.samplers.space import Space

FIT = "scalelab:carbs:fit"  # system attribute: hyperparameters, for later trials to start from


class CarbsSampler(BaseSampler):
    """Cost-aware Pareto-region Bayesian search (arXiv:2306.08055): better losses at every cost, from a cheap start.

    Runs around the centre come first. Then each suggestion is the best of many Gaussian steps from settings on the
    front of loss and cost, by the expected improvement over the front at the step's own predicted cost, times the
    probability that the run ends well. Nothing is remembered outside the study: another process, with the same seed,
    goes on as this one would have.

    How each trial was chosen and why is said by its system attributes `scalelab:phase` ("opening", "search" or
    "resample") and `scalelab:why`. How trials are read, diverged ones above all: see `scalelab.samplers.evidence`.
    Constraints are those of `trial.set_constraint` or of `constraints_func`, met at 0 or less.

    Before a trial is told there is no search space to see: each parameter is then drawn on its own, in the first trial
    at its centre. A parameter that only some trials have is always drawn on its own, uniformly between its bounds in
    its transformed units. Costs can't be predicted during the opening, so `max_cost` holds from the search on.

    Args:
        seed: of everything that is drawn, with the trial's number; drawn afresh where left out.
        centres, scales, kinds: of parameters by name, as `Space.of` takes them.
        opening, resample_every, max_cost, budget, objective, trade: as `Settings` has them.
        constraints_func: of a trial that was told, its constraints' values.

    Raises:
        Refused: on arguments that cannot be met; and from a suggestion on a study that does not minimise two values,
            on a budget that is spent, on costs that are all too high, and on surrogates that cannot be fitted.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        centres: Mapping[str, Any] | None = None,
        scales: Mapping[str, float] | None = None,
        kinds: Mapping[str, str] | None = None,
        opening: int = 4,
        resample_every: int = 5,
        max_cost: float = np.inf,
        budget: float = np.inf,
        objective: Literal["front", "joint"] = "front",
        trade: float | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        if seed is not None and (not isinstance(seed, int | np.integer) or seed < 0):
            raise Refused(f"seed is {seed!r}: accepted is a whole number from 0, or None for a fresh one")
        self._seed = secrets.randbits(64) if seed is None else int(seed)
        self._given = {"centres": dict(centres or {}), "scales": dict(scales or {}), "kinds": dict(kinds or {})}
        self._settings = Settings(
            opening=opening, resample_every=resample_every, max_cost=max_cost, budget=budget,
            objective=objective, trade=trade,
        )  # fmt: skip
        self._constraints_func = constraints_func

    def check(self, distributions: Mapping[str, BaseDistribution]) -> None:
        """Refuse centres, scales and kinds that do not fit the parameters of a study, before it is begun."""
        Space.of(distributions, **self._given)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that all trials share; those of trials that have not ended well where none has."""
        trials = self._trials(study)
        shared = intersection_search_space(trials, include_pruned=True)
        return dict(sorted(shared.items())) if shared else common_space(trials)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        check_directions(study)
        trials = [one for one in self._trials(study) if one.number != trial.number]
        if not search_space:
            begun = sum(one.state is TrialState.COMPLETE for one in trials) >= self._settings.opening
            why = "no parameter is known that all trials share: each is drawn on its own"
            mark(study, trial, "search" if begun else "opening", why)
            return {}
        space = self._space(search_space, trials)
        seen = evidence(trials, search_space)
        last = max((one.number for one in trials if one.system_attrs.get(PHASE) == "resample"), default=-1)
        chosen = suggestion(
            seen, space, self._settings, self._rng(trial),
            fit=self._kept(trials, space), since=sum(one.number > last for one in seen),
        )  # fmt: skip
        mark(study, trial, chosen.phase, chosen.why)
        if chosen.fit is not None:
            write(study, trial, FIT, {"search": self._search(space), "fit": vars(chosen.fit)})
        announce(study, trial, chosen.params, search_space)
        return dict(chosen.params)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        (dimension,) = self._space({param_name: param_distribution}, []).dimensions
        if trial.number == 0:
            return dimension.start
        phase = study._storage.get_trial_system_attrs(trial._trial_id).get(PHASE, "opening")
        radius = 1.0 if phase == "opening" else np.inf
        return dimension.value(drawn(dimension, 1, self._rng(trial, param_name), radius=radius)[0])

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        if self._constraints_func is not None:
            _process_constraints_after_trial(self._constraints_func, study, trial, state)

    def recommend(self, study: Study, cost: float | None = None) -> dict[str, Any]:
        """The parameters to run at a cost: where the expected loss, plus its standard deviation, is lowest.

        Args:
            study: of which some trials ended well.
            cost: that the run is to have, in the unit that trials report; that of the front's most expensive setting
                where left out. One that is out of the space's reach gives the nearest that is within it.

        Returns:
            The parameters that all trials share.

        Raises:
            Refused: where no trial ended well and within its constraints, and on a cost that is no positive number.
        """
        check_directions(study)
        if cost is not None and not 0 < cost < np.inf:
            raise Refused(f"cost is {cost!r}: accepted is a positive number, in the unit that trials report")
        trials = self._trials(study)
        search_space = intersection_search_space(trials)
        seen = evidence(trials, search_space)
        if not search_space or not any(one.outcome is Outcome.OK and one.feasible for one in seen):
            raise Refused(
                f"study {study.study_name!r} has no trial to recommend from: one must have ended well, within its "
                "constraints, with a parameter that all trials share"
            )
        space = self._space(search_space, trials)
        study_known = known(seen, space, self._settings, self._kept(trials, space))
        return space.decode(recommended(study_known, cost, np.random.default_rng(0)))

    def _trials(self, study: Study) -> list[FrozenTrial]:
        return study.get_trials(deepcopy=False)

    def _rng(self, trial: FrozenTrial, name: str = "") -> np.random.Generator:
        return np.random.default_rng([self._seed, trial.number, zlib.crc32(name.encode())])

    def _space(self, distributions: Mapping[str, BaseDistribution], trials: Sequence[FrozenTrial]) -> Space:
        """What was given of these distributions. A name that no trial of a whole opening had is refused."""
        told = [trial.distributions for trial in trials if trial.state is TrialState.COMPLETE]
        for what, given in self._given.items():
            for name in given if len(told) >= self._settings.opening else ():
                if not any(name in its for its in told):
                    raise unknown(f"parameter in {what}", name, distributions)
        return Space.of(
            distributions,
            **{
                what: {name: value for name, value in given.items() if name in distributions}
                for what, given in self._given.items()
            },
        )

    def _search(self, space: Space) -> int:
        """Tells searches apart for which other hyperparameters would be fitted."""
        return zlib.crc32(repr((space.dimensions, self._settings.trade)).encode())

    def _kept(self, trials: Sequence[FrozenTrial], space: Space) -> Fit | None:
        """The hyperparameters that the latest trial of this search kept."""
        search = self._search(space)
        for trial in reversed(trials):
            if (kept := read(trial, FIT)) and kept["search"] == search:
                return Fit(**kept["fit"])
        return None
