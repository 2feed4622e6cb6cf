"""Trials that continue others: which configurations a study has, which go on next, and how a trial takes one over."""

import copy
import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna import Study
from optuna.pruners import HyperbandPruner
from optuna.pruners._successive_halving import _completed_rung_key, _is_trial_promotable_to_next_rung
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

CONTINUES = "scalelab:continues"  # user attribute: number of the trial whose run this one goes on with
PLACE = "scalelab:place"  # system attribute: a Place, in one, so that no other worker sees half of it
CLAIMS = (
    "scalelab:claims"  # system attribute: number of the trial that this one is about to continue; None where it let go
)
ATTEMPTS = 2  # to continue a trial, where a continuation crashes


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a trial is judged: its bracket, of which Hyperband when it was asked."""

    bracket: int
    min_resource: int
    reduction_factor: int
    max_resource: int

    @property
    def rungs(self) -> tuple[int, int]:
        """What says where the rungs are."""
        return self.min_resource, self.reduction_factor

    @property
    def written(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items() if name != "bracket")


def place_of(trial: FrozenTrial) -> Place | None:
    """A trial's place; None where it was asked without."""
    kept = trial.system_attrs.get(PLACE)
    return None if kept is None else Place(**kept)


def latest(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Each configuration once: without trials that are continued, and without continuations that crashed."""
    kept = [trial for trial in trials if not (CONTINUES in trial.user_attrs and trial.state is TrialState.FAIL)]
    continued = {trial.user_attrs.get(CONTINUES) for trial in kept}
    return [trial for trial in kept if trial.number not in continued]


class Bracket(Study):
    """A study that shows the configurations of one bracket, each once.

    Optuna's own filters only `get_trials`, and its samplers read `_get_trials`.
    """

    def __init__(self, study: Study, pruner: HyperbandPruner, bracket: int) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, pruner)
        self._whole, self._bracket, self._placing = study, bracket, pruner

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        found = [
            trial
            for trial in latest(super()._get_trials(deepcopy=False, use_cache=use_cache))
            if self._placing._get_bracket_id(self, trial) == self._bracket and (states is None or trial.state in states)
        ]
        return copy.deepcopy(found) if deepcopy else found

    def stop(self) -> None:
        self._whole.stop()


def values_at_rungs(trial: FrozenTrial) -> dict[int, float]:
    """What a run had at each rung that it reached, by the rung's number in its bracket, the lowest first."""
    keys = {_completed_rung_key(rung): rung for rung in range(64)}  # by 2 at least: beyond any step
    return {rung: trial.system_attrs[key] for key, rung in keys.items() if key in trial.system_attrs}


@dataclass(frozen=True, kw_only=True)
class _Halving:
    """One bracket: its configurations, each with what it had at the rungs it reached."""

    trials: Sequence[FrozenTrial]
    values: Sequence[Mapping[int, float]]
    eta: int
    direction: StudyDirection

    def promotes(self, value: float, rung: int) -> bool:
        """Optuna's rule, asked again: whether `value` is among the best 1/η of all that reached the rung."""
        values = [theirs[rung] for theirs in self.values if rung in theirs]
        return _is_trial_promotable_to_next_rung(value, values, self.eta, self.direction)

    def is_full(self, rung: int) -> bool:
        """Whether 1/η of those that reached the rung are beyond it, or on their way."""
        here = [(trial, max(theirs)) for trial, theirs in zip(self.trials, self.values, strict=True) if rung in theirs]
        beyond = sum(top > rung or trial.state is TrialState.RUNNING for trial, top in here)
        return beyond >= max(1, len(here) // self.eta)


def due(
    trials: Sequence[FrozenTrial], max_resource: int, direction: StudyDirection, *, efficient: bool
) -> list[FrozenTrial]:
    """Those that ended under a smaller maximum and go on: the highest rung first, there the best."""
    sign = -1 if direction == StudyDirection.MAXIMIZE else 1
    claims = Counter[int | None]()
    for trial in trials:
        claims[trial.system_attrs.get(CLAIMS)] += 1 if trial.state is TrialState.FAIL else ATTEMPTS
    brackets: dict[int, list[tuple[FrozenTrial, Place]]] = {}
    for trial in latest(trials):
        if (place := place_of(trial)) is not None:
            brackets.setdefault(place.bracket, []).append((trial, place))
    found = []
    for bracket, placed in brackets.items():
        there, places = zip(*placed, strict=True)
        values_there = [*map(values_at_rungs, there)]
        halving = _Halving(trials=there, values=values_there, eta=places[0].reduction_factor, direction=direction)
        for trial, place, values in zip(there, places, values_there, strict=True):
            old = place.max_resource < max_resource
            if old and values and claims[trial.number] < ATTEMPTS and _can_go_on(trial):
                rung = max(values)
                if halving.promotes(values[rung], rung) and not (efficient and halving.is_full(rung)):
                    found.append((-bracket - rung, sign * values[rung], trial.number, trial))
    return [trial for *_, trial in sorted(found)]


def _can_go_on(trial: FrozenTrial) -> bool:
    """Ended, and not by diverging."""
    last = 0.0 if trial.last_step is None else trial.intermediate_values[trial.last_step]
    ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return ended and all(map(math.isfinite, (last, *(trial.values or ()))))


def claimed(study: Study, trial: FrozenTrial, of: FrozenTrial) -> bool:
    """Whether `trial` alone may continue `of`: of two that claim it at the same time at most one keeps it."""
    keep(study, trial, {CLAIMS: of.number})
    others = study._storage.get_all_trials(study._study_id, deepcopy=False)
    if any(
        other.system_attrs.get(CLAIMS) == of.number and other.number != trial.number
        for other in others
        if other.state is not TrialState.FAIL
    ):
        keep(study, trial, {CLAIMS: None})
        return False
    return True


def go_on(study: Study, trial: FrozenTrial, of: FrozenTrial) -> None:
    """Make `trial` the continuation of `of`: its parameters, as if enqueued, its reports, and its rungs."""
    for step, loss in sorted(of.intermediate_values.items()):
        study._storage.set_trial_intermediate_value(trial._trial_id, step, loss)
        trial.intermediate_values[step] = loss
    rungs = {_completed_rung_key(rung): value for rung, value in values_at_rungs(of).items()}
    keep(study, trial, {**rungs, "fixed_params": of.params})
    study._storage.set_trial_user_attr(trial._trial_id, CONTINUES, of.number)
    trial.user_attrs[CONTINUES] = of.number


def keep(study: Study, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
    """System attributes, in the storage and in the trial at hand: it is what Optuna's `Trial` goes on to read."""
    for name, value in attributes.items():
        study._storage.set_trial_system_attr(trial._trial_id, name, value)
        trial.system_attrs[name] = value
