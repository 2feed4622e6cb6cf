"""A trial under way: which of its runs are to be made now, and what is to be told of it when they have ended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from scalelab.plan import PlannedRun
from scalelab.search.objectives import Told, told
from scalelab.search.owners import Work
from scalelab.search.rule import Rule
from scalelab.search.works import Ordered
from scalelab.trials import Outcome, Trial


@dataclass(kw_only=True)
class Underway:
    """A trial, its runs, one a tuning seed, and what came of those that were made; `stopped` says why no more are.

    Where a rule may end a trial between its runs, they are made in stages.
    """

    trial: FrozenTrial
    runs: Sequence[PlannedRun]
    rule: Rule | None
    work: Work
    came: list[Trial] = field(default_factory=list)
    stopped: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether its next run has something to say: not where one crashed, diverged, or was stopped."""
        left = len(self.came) < len(self.runs)
        return left and self.stopped is None and all(trial.outcome is Outcome.OK for trial in self.came)

    @property
    def orders(self) -> list[Ordered]:
        """The runs of its present stage."""
        stages = (range(len(self.runs)),) if self.rule is None else self.rule.stages(len(self.runs))
        stage = next(stage for stage in stages if stage.start == len(self.came))
        judged = self.trial.number if self.rule is not None and self.rule.asks_runs else None
        return [Ordered(run=self.runs[place], pruning=judged) for place in stage]

    def advance(self, given_up: Mapping[str, Trial], stops: Callable[[FrozenTrial, list[float]], bool]) -> Told | None:
        """Go on to the stage that is not there yet; what is to be told when none is left.

        Args:
            given_up: runs that have crashed too often, by name.
            stops: whether the trial is to end between its runs, by their losses so far.
        """
        while self.goes_on:
            came = [given_up.get(order.name) or order.came for order in self.orders]
            there = [trial for trial in came if trial is not None]
            if len(there) < len(came):
                return None
            came_so_far = [*self.came, *there]
            well = [trial.loss_nats for trial in came_so_far if trial.loss_nats is not None]
            more = len(well) == len(came_so_far) < len(self.runs)
            if more and self.rule is not None and not self.rule.asks_runs and stops(self.trial, well):
                self.stopped = f"Wilcoxon: worse than the best on {len(well)} of {len(self.runs)} seeds"
            self.came = came_so_far  # last: where the storage was away, the question is asked again
        return told(self.came, stopped=self.stopped, runs=[run.spec for run in self.runs])
