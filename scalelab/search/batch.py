"""The runs of trials that were asked together: launched, stage by stage where a rule may end a trial in between."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from scalelab.errors import Refused
from scalelab.plan import Plan, PlannedRun
from scalelab.search.objectives import Told, told
from scalelab.search.problem import Problem
from scalelab.search.study import Study
from scalelab.trials import TRIAL_FILE, Outcome, Trial

RETRIES = 2  # of a run that crashed, before its trial is given up

Launch = Callable[[list[list[str]]], object]


@dataclass(kw_only=True)
class Asked:
    """A trial, its runs, one a tuning seed, and what came of those that were made; `stopped` says why no more are."""

    trial: FrozenTrial
    runs: tuple[PlannedRun, ...]
    came: list[Trial] = field(default_factory=list)
    stopped: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether its next run has something to say: not where one crashed, diverged, or was stopped."""
        return self.stopped is None and all(trial.outcome is Outcome.OK for trial in self.came)


def ran(problem: Problem, study: Study, batch: Sequence[Asked], launch: Launch) -> Iterator[tuple[Asked, Told]]:
    """Run trials; what is to be told of each, when all have ended.

    Raises:
        Refused: where a run has not ended: another process is at it.
    """
    seeds = len(problem.tuning_seeds)
    rule = study.rule
    stages = (range(seeds),) if rule is None else rule.stages(seeds)
    for stage in stages:
        going = [asked for asked in batch if asked.goes_on]
        numbers = {
            run.spec.fingerprint: asked.trial.number
            for asked in reversed(going)
            for run in asked.runs
            if rule is not None and rule.asks_runs
        }
        finish([asked.runs[place] for asked in going for place in stage], launch, numbers)
        for asked in going:
            asked.came += [_ended(asked.runs[place]) for place in stage]
            if rule is not None and not rule.asks_runs and asked.goes_on and len(asked.came) < seeds:
                losses = [trial.loss_nats for trial in asked.came if trial.loss_nats is not None]
                if study.stops(asked.trial, losses):
                    asked.stopped = f"Wilcoxon: worse than the best on {len(losses)} of {seeds} seeds"
    for asked in batch:
        yield asked, told(asked.came, stopped=asked.stopped, runs=[run.spec for run in asked.runs])


def finish(runs: Sequence[PlannedRun], launch: Launch, numbers: Mapping[str, int] | None = None) -> None:
    """Launch what has not ended, and what crashed again, a few times.

    Args:
        runs: each is run once.
        launch: runs the jobs of these overrides.
        numbers: fingerprint → the trial on whose behalf a run may be stopped; one that was stopped has ended.
    """
    plan = Plan(runs=tuple({run.spec.fingerprint: run for run in runs}.values()))
    judged = numbers or {}
    for _ in range(1 + RETRIES):
        missing = [run for run in plan.missing if not (run.spec.fingerprint in judged and _was_pruned(run))]
        if not missing:
            return
        launch(
            [
                [*run.task_overrides, *(f"pruning={judged[name]}" for name in [run.spec.fingerprint] if name in judged)]
                for run in missing
            ]
        )


def _was_pruned(run: PlannedRun) -> bool:
    return (run.folder.path / TRIAL_FILE).exists() and run.folder.read().outcome is Outcome.PRUNED


def _ended(run: PlannedRun) -> Trial:
    if not (run.folder.path / TRIAL_FILE).exists():
        raise Refused(f"{run.folder.path} has not ended: is another process at it? launch again when it is done")
    return run.folder.read()
