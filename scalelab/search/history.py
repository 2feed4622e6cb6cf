"""A search's trials so far, by what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from scalelab.pruners.continuing import due, latest
from scalelab.pruners.idhb import IdhbPruner
from scalelab.readers.optuna_trials import outcome_of
from scalelab.search.rule import Rule
from scalelab.search_views import WARM
from scalelab.trials import Outcome


@dataclass(frozen=True, kw_only=True)
class History:
    """A study's trials in the order in which they were asked.

    `horizon` are the tokens that a trial must have come to where those may be raised, None where they may not;
    `continued` are the numbers of trials that a later one goes on with, and `due` how many more are to be.
    """

    ended: tuple[FrozenTrial, ...] = ()  # OK or DIVERGED: they count
    pruned: tuple[FrozenTrial, ...] = ()  # stopped early: they count too
    crashed: tuple[FrozenTrial, ...] = ()
    pending: tuple[FrozenTrial, ...] = ()  # asked, not told: somebody is at work on it, or was
    warm: tuple[FrozenTrial, ...] = ()
    spent: Mapping[str, float] = field(default_factory=dict)  # runs that were paid for → their FLOPs
    horizon: int | None = None
    continued: frozenset[int] = frozenset()
    due: int = 0

    @property
    def told(self) -> int:
        """How many settings were tried: a trial that another goes on with is not counted beside it."""
        return sum(trial.number not in self.continued for trial in (*self.ended, *self.pruned))

    @property
    def spent_flops(self) -> float:
        return sum(self.spent.values())

    @property
    def saved_flops(self) -> float:
        """What the trials that were stopped would have cost on their way to the end."""
        stopped = [trial for trial in self.pruned if trial.number not in self.continued]
        saved: dict[str, float] = {
            trial.user_attrs["fingerprint"]: trial.user_attrs["saved_flops"] for trial in stopped
        }
        return sum(saved.values())

    @property
    def best_first(self) -> list[FrozenTrial]:
        """Settings that ended well, at the horizon, warm ones included, each once, by their loss."""
        well = [t for t in (*self.ended, *self.warm) if outcome_of(t) == Outcome.OK]
        if self.horizon is not None:
            well = [trial for trial in well if trial.user_attrs["tokens"] == self.horizon]
        once = {tuple(sorted(trial.params.items())): trial for trial in reversed(well)}
        return sorted(once.values(), key=lambda trial: (trial.values[0], trial.number))

    @property
    def front(self) -> list[FrozenTrial]:
        """Those of them that no other one beats in every objective, by their loss."""
        best = self.best_first
        return [trial for trial in best if not any(_dominates(other.values, trial.values) for other in best)]


def _dominates(values: Sequence[float], others: Sequence[float]) -> bool:
    return values != others and all(mine <= theirs for mine, theirs in zip(values, others, strict=True))


def history(study: optuna.Study | None, rule: Rule | None = None) -> History:
    """What a study holds, as the rule by which its runs are stopped counts it; nothing where there is none yet."""
    trials = [] if study is None else study.get_trials(deepcopy=False)
    own = [trial for trial in trials if WARM not in trial.user_attrs]
    told = [trial for trial in own if trial.state.is_finished()]
    ended = [trial for trial in told if outcome_of(trial) in (Outcome.OK, Outcome.DIVERGED)]
    pruned = [trial for trial in told if trial.state is TrialState.PRUNED]
    deepens = rule is not None and rule.deepens
    return History(
        ended=tuple(ended),
        pruned=tuple(pruned),
        crashed=tuple(trial for trial in told if trial.state is TrialState.FAIL),
        pending=tuple(trial for trial in own if trial.state is TrialState.RUNNING),
        warm=tuple(trial for trial in trials if WARM in trial.user_attrs),
        spent={run: spent_on_run(trial) for trial in (*ended, *pruned) for run in runs_of(trial)},
        horizon=rule.horizon if rule is not None and deepens else None,
        continued=frozenset({*range(len(trials))} - {trial.number for trial in latest(trials)})
        if deepens
        else frozenset(),
        due=len(waiting(study, rule)) if study is not None and deepens else 0,
    )


def runs_of(trial: FrozenTrial) -> list[str]:
    """The fingerprints of its runs."""
    found: str = trial.user_attrs["fingerprint"]
    return found.split()


def spent_on_run(trial: FrozenTrial) -> float:
    """FLOPs of each of its runs: less than their cost where they went on from another's checkpoint."""
    found: float = trial.user_attrs.get("spent_flops", trial.user_attrs["cost_flops"])
    return found


def waiting(study: optuna.Study, rule: Rule | None) -> list[FrozenTrial]:
    """The trials of a smaller horizon that are to be gone on with."""
    pruner = rule.pruner() if rule is not None else None
    if not isinstance(pruner, IdhbPruner):
        return []
    trials = study.get_trials(deepcopy=False)
    return due(trials, pruner.max_resource, study.direction, efficient=pruner.efficient)
