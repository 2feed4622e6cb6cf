"""A search's trials so far, by what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from scalelab.readers.optuna_trials import outcome_of
from scalelab.search_views import WARM
from scalelab.trials import Outcome


@dataclass(frozen=True, kw_only=True)
class History:
    """A study's trials in the order in which they were asked."""

    ended: tuple[FrozenTrial, ...] = ()  # OK or DIVERGED: they count
    crashed: tuple[FrozenTrial, ...] = ()
    pending: tuple[FrozenTrial, ...] = ()  # asked, not told: of a process that is no more
    warm: tuple[FrozenTrial, ...] = ()
    spent: Mapping[str, float] = field(default_factory=dict)  # runs that were paid for → their FLOPs

    @property
    def spent_flops(self) -> float:
        return sum(self.spent.values())

    @property
    def best_first(self) -> list[FrozenTrial]:
        """Settings that ended well, warm ones included, each once, by their loss."""
        well = [t for t in (*self.ended, *self.warm) if outcome_of(t) == Outcome.OK]
        once = {tuple(sorted(trial.params.items())): trial for trial in reversed(well)}
        return sorted(once.values(), key=lambda trial: (trial.values[0], trial.number))

    @property
    def front(self) -> list[FrozenTrial]:
        """Those of them that no other one beats in every objective, by their loss."""
        best = self.best_first
        return [trial for trial in best if not any(_dominates(other.values, trial.values) for other in best)]


def _dominates(values: Sequence[float], others: Sequence[float]) -> bool:
    return values != others and all(mine <= theirs for mine, theirs in zip(values, others, strict=True))


def history(study: optuna.Study | None) -> History:
    """What a study holds; nothing where there is none yet."""
    trials = [] if study is None else study.get_trials(deepcopy=False)
    own = [trial for trial in trials if WARM not in trial.user_attrs]
    told = [trial for trial in own if trial.state.is_finished()]
    ended = [trial for trial in told if outcome_of(trial) in (Outcome.OK, Outcome.DIVERGED)]
    return History(
        ended=tuple(ended),
        crashed=tuple(trial for trial in told if outcome_of(trial) == Outcome.FAILED),
        pending=tuple(trial for trial in own if trial.state is TrialState.RUNNING),
        warm=tuple(trial for trial in trials if WARM in trial.user_attrs),
        spent={
            run: trial.user_attrs["cost_flops"] for trial in ended for run in trial.user_attrs["fingerprint"].split()
        },
    )
