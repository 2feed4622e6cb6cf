"""A search as it stands: what was tried and how it ended, what it cost, the best so far, the front, what matters.

Of any Optuna study that minimises: one of ours says losses and FLOPs in its trials' attributes; of another the first
objective is the loss, and the second, where there is one, the cost.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from scalelab.errors import Refused
from scalelab.readers.optuna_trials import IDENTITY, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial

# Attributes of a trial:
PHASE = "scalelab:phase"  # how its sampler came to it
SAMPLER = "sampler"  # which sampler that was
WARM = "warm_start"  # that it was told from elsewhere
ENOUGH = 20  # trials that ended well, for importances: ours
LADDER = tuple(lead * 10**power for power in range(1, 6) for lead in (1, 3))  # trials at which the best is told


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One trial. `loss` and `cost` are NaN where unknown; `outcome` as `outcome_of` says it, or PRUNED.

    `spent` is what it cost itself, `saved` what it was kept from costing. Of a search whose horizon is raised: whether
    it is `continued` by a later trial, and came as far as any, `at_horizon`.
    """

    number: int
    outcome: str
    sampler: str
    phase: str
    warm: bool
    params: dict[str, Any]
    loss: float
    cost: float
    spent: float
    saved: float
    runs: tuple[str, ...]
    continued: bool = False
    at_horizon: bool = True

    @property
    def ok(self) -> bool:
        return self.outcome == "OK"


@dataclass(frozen=True, kw_only=True)
class Step:
    """The best of the first `trials` that ended, and what they cost; None and NaN where there is none."""

    trials: int
    best: Tried | None
    spent: float


@dataclass(frozen=True, kw_only=True)
class SearchView:
    """A study, read. `cost` names what its second number counts, None where there is no such number."""

    name: str
    objectives: tuple[str, ...]
    cost: str | None
    tried: tuple[Tried, ...]

    @cached_property
    def ended(self) -> tuple[Tried, ...]:
        """The search's own trials that say something, in order."""
        return tuple(each for each in self.tried if each.outcome in ("OK", "DIVERGED") and not each.warm)

    @cached_property
    def pruned(self) -> tuple[Tried, ...]:
        """The search's own trials that were stopped early."""
        return tuple(each for each in self.tried if each.outcome == "PRUNED" and not each.warm)

    @property
    def saved(self) -> float:
        """What those would have cost more on their way to the end, of those that did not go on later."""
        return sum({each.runs: each.saved for each in self.pruned if not each.continued}.values())

    @cached_property
    def well(self) -> tuple[Tried, ...]:
        """All that ended well, warm ones included."""
        return tuple(each for each in self.tried if each.ok)

    @property
    def best(self) -> Tried | None:
        return _best(self.well)

    @property
    def spent(self) -> float:
        """The cost of the search's own trials, of a run that several of them share once; NaN where it is unknown."""
        return _spent((*self.ended, *self.pruned))

    def counts(self, what: str) -> dict[str, int]:
        """How many of the search's own trials have which "outcome", "sampler" or "phase", where they say."""
        said = [str(getattr(each, what)) for each in self.tried if not each.warm]
        return dict(Counter(filter(None, said)))

    @cached_property
    def front(self) -> tuple[Tried, ...]:
        """Those that ended well and that no cheaper one beats, from the cheapest; empty where costs are unknown."""
        found: list[Tried] = []
        for each in sorted(self.well, key=lambda each: (each.cost, each.loss)):
            if math.isfinite(each.cost) and (not found or each.loss < found[-1].loss):
                found.append(each)
        return tuple(found)

    @property
    def trend(self) -> tuple[Step, ...]:
        """The best so far after 10, 30, 100 … of its own trials, and after all."""
        places = [place for place in LADDER if place < len(self.ended)] + [len(self.ended)] * bool(self.ended)
        steps = []
        for place in places:
            last = math.inf if place == len(self.ended) else self.ended[place - 1].number
            until = [each for each in self.pruned if each.number < last]
            best = _best(each for each in self.ended[:place] if each.ok)
            steps.append(Step(trials=place, best=best, spent=_spent([*self.ended[:place], *until])))
        return tuple(steps)


def _best(tried: Iterable[Tried]) -> Tried | None:
    return min(tried, key=lambda each: (not each.at_horizon, each.loss), default=None)


def _spent(tried: Iterable[Tried]) -> float:
    costs = {run: each.spent for each in tried for run in each.runs or (str(each.number),)}
    return sum(costs.values())


def view(study: "Study") -> SearchView:
    """What a study says.

    Raises:
        Refused: where it has no trials, or maximises its first objective.
    """
    from optuna.study import StudyDirection

    trials = study.get_trials(deepcopy=False)
    if not trials:
        raise Refused(f"study {study.study_name!r} has no trials yet")
    if study.directions[0] is StudyDirection.MAXIMIZE:
        raise Refused(
            f"study {study.study_name!r} maximises its first objective: accepted is one that minimises a loss"
        )
    objectives = _objectives(study)
    tried = _of_latest_horizon(study, tuple(_tried(trial) for trial in trials))
    counted = any("cost_flops" in trial.user_attrs for trial in trials)
    cost = "cost_flops" if counted else objectives[1] if len(objectives) > 1 else None
    return SearchView(name=study.study_name, objectives=objectives, cost=cost, tried=tried)


def _objectives(study: "Study") -> tuple[str, ...]:
    if IDENTITY in study.user_attrs:
        return tuple(study.user_attrs[IDENTITY]["objectives"].values())
    if study.metric_names is not None:
        return tuple(study.metric_names)
    return ("loss", "cost", *(f"objective {place}" for place in range(3, len(study.directions) + 1)))[
        : len(study.directions)
    ]


def _tried(trial: "FrozenTrial") -> Tried:
    said, values = trial.user_attrs, trial.values or []
    outcome, pruned = outcome_of(trial), trial.state.name == "PRUNED"
    cost = said.get("cost_flops", values[1] if len(values) > 1 else math.nan)
    return Tried(
        number=trial.number,
        outcome="PRUNED" if pruned and outcome == "FAILED" else outcome,
        sampler=said.get(SAMPLER, ""),
        phase=trial.system_attrs.get(PHASE, ""),
        warm=WARM in said,
        params=dict(trial.params),
        loss=said.get("loss_nats", values[0] if values else math.nan),
        cost=cost,
        spent=said.get("spent_flops", cost),
        saved=said.get("saved_flops", 0.0),
        runs=tuple(said.get("fingerprint", "").split()),
    )


def _of_latest_horizon(study: "Study", tried: tuple[Tried, ...]) -> tuple[Tried, ...]:
    """The trials of a search whose horizon is raised, each with whether it is among those that came farthest."""
    if study.user_attrs.get(IDENTITY, {}).get("pruner", {}).get("name") != "idhb":
        return tried
    from scalelab.pruners.continuing import latest

    trials = study.get_trials(deepcopy=False)
    kept = {trial.number for trial in latest(trials)}
    tokens = [trial.user_attrs.get("tokens", 0) for trial in trials]
    most = max((tokens[each.number] for each in tried if each.ok), default=0)
    return tuple(
        replace(each, continued=each.number not in kept, at_horizon=tokens[each.number] == most) for each in tried
    )


def importances(found: SearchView, study: "Study") -> dict[str, float] | None:
    """Each parameter's share of what decides whether a loss is among the best; None with fewer than `ENOUGH` trials.

    Optuna's PED-ANOVA (arXiv:2304.10255).
    """
    if len(found.well) < ENOUGH:
        return None
    from optuna.importance import get_param_importances

    with quiet():
        return get_param_importances(well_only(found, study))


def well_only(found: SearchView, study: "Study") -> "Study":
    """A copy in memory of the trials that ended well, with the loss as its one objective, for Optuna's own tools."""
    import optuna

    numbers = {each.number: each.loss for each in found.well}
    copy = optuna.create_study(study_name=study.study_name)
    for trial in study.get_trials(deepcopy=False):
        if trial.number in numbers:
            copy.add_trial(
                optuna.trial.create_trial(
                    params=trial.params, distributions=trial.distributions, value=numbers[trial.number]
                )
            )
    return copy


@contextmanager
def quiet() -> "Iterator[None]":
    """Without Optuna's log lines and its warnings that a thing is experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
