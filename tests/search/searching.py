"""Searches of a formula: all of a search but Hydra's launcher and the training, so that a trial takes milliseconds."""

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from rich.console import Console

from scalelab import commands
from scalelab.jobs import Job, run_jobs
from scalelab.plan import PlannedRun, planned, swept
from scalelab.readers.optuna_study import open_study
from scalelab.search.loop import search
from scalelab.search.problem import problem_of
from scalelab.search.pruning import StudyPruner, pruning_of
from scalelab.search.works import Here
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, RunFolder, Trial
from tests.helpers import TINY, squeezed

LR = "lr=tag(log,interval(1e-4,1e-1))"
Loss = Callable[[RunSpec], float | None]


def bowl(spec: RunSpec) -> float:
    """Best at lr = 0.01, the better the wider and longer, with a seed's offset."""
    size = 8 / spec.shape.width + 100 / spec.horizon.tokens
    return 2 + size + 0.1 * math.log(spec.hparams.lr / 0.01) ** 2 + 0.01 * (spec.seed % 3)


class Searching:
    """`loss` of a spec: None where it diverges, an error where the run crashes. `specs` are the runs in order."""

    def __init__(self) -> None:
        self.specs: list[RunSpec] = []
        self.loss: Loss = bowl
        self.status = 0
        self.together = True
        self.asked: list[tuple[int, int]] = []  # trials at their steps, by pruners

    def __call__(self, *overrides: str, n_trials: int = 4, sampler: str = "random") -> str:
        """What the search says, on one line."""
        asked = swept(
            ["hydra/sweeper=optuna", *TINY, "study=s", f"hydra/sweeper/sampler={sampler}",
             f"hydra.sweeper.n_trials={n_trials}", *overrides]
        )  # fmt: skip
        said = io.StringIO()
        problem = problem_of(asked)

        def launch(jobs: list[list[str]]) -> None:
            for job in map(asked.job, jobs):
                (run,) = planned([job]).runs
                run.folder.path.mkdir(parents=True, exist_ok=True)
                number = job.config.pruning
                self._run(run, None if number is None else int(number))

        at_work = partial(
            search, problem, Here(launch), lambda line: print(line, file=said), most=problem.settings.n_jobs,
            together=self.together, poll_seconds=0.01,
        )  # fmt: skip
        self.status = commands.search(asked, at_work, console=Console(file=said, width=200), dry_run=False)
        return squeezed(said.getvalue())

    def _run(self, run: PlannedRun, number: int | None) -> None:
        run.folder.write(self._trial(run.spec, run.folder, number))

    def _trial(self, spec: RunSpec, folder: RunFolder, number: int | None) -> Trial:
        self.specs.append(spec)
        try:
            if number is not None and (trial := self._stopped(spec, folder, number)):
                return trial
            loss = self.loss(spec)
        except RuntimeError as error:
            return Trial(spec=spec, outcome=Outcome.FAILED, loss_nats=None, reason=str(error))
        outcome = Outcome.DIVERGED if loss is None else Outcome.OK
        return Trial(
            spec=spec, outcome=outcome, loss_nats=loss, cost_flops=spec.cost_flops, seconds=0.5,
            tokens_seen=spec.horizon.tokens,
        )  # fmt: skip

    def _stopped(self, spec: RunSpec, folder: RunFolder, number: int) -> Trial | None:
        """The trial of a run that the search's pruner ends, by a curve that comes down to the loss."""
        pruner = pruning_of(folder, number, spec).pruner
        for step in () if pruner is None else pruner.rungs:
            assert pruner is not None
            tokens = step * spec.horizon.batch_tokens
            loss = self.loss(spec)
            here = math.inf if loss is None else loss + 1 - tokens / spec.horizon.tokens
            self.asked.append((number, step))
            if reason := pruner.stops(step=step, tokens=tokens, loss_nats=here):
                cost = spec.cost_flops * tokens // spec.horizon.tokens
                return Trial(
                    spec=spec, outcome=Outcome.PRUNED, loss_nats=None, reason=reason, tokens_seen=tokens,
                    cost_flops=cost, seconds=0.5 * tokens / spec.horizon.tokens,
                )  # fmt: skip
        return None


def trials(source: str = "runs/s") -> list[FrozenTrial]:
    return open_study(source).get_trials()


def kept() -> dict[str, Any]:
    plain = json.loads(Path("runs/s/search.json").read_text())
    assert isinstance(plain, dict)
    return plain


class Training(Searching):
    """The same with runs that train, one after another. `steps` are those that each run took itself, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.killed_after = math.inf  # reports to pruners
        self.reports = 0

    def _run(self, run: PlannedRun, number: int | None) -> None:
        self.specs.append(run.spec)
        job = Job(spec=run.spec, folder=run.folder)
        if number is not None:
            asked = pruning_of(run.folder, number, run.spec)
            pruner = None if asked.pruner is None else Killing(asked.pruner, self)
            job = replace(job, pruner=pruner, begins=asked.begins, keep_checkpoint=asked.keep_checkpoint)
        (trial,) = run_jobs([job])
        assert trial is not None
        self.steps.append((trial.tokens_seen - trial.trunk_tokens) // run.spec.horizon.batch_tokens)


@dataclass(frozen=True)
class Killing:
    """A pruner under which a run is killed, between the answer to its report and anything that follows from it."""

    inner: StudyPruner
    by: Training

    @property
    def rungs(self) -> Sequence[int]:
        return self.inner.rungs

    def stops(self, *, step: int, tokens: int, loss_nats: float) -> str | None:
        self.by.asked.append((self.inner.number, step))
        answer = self.inner.stops(step=step, tokens=tokens, loss_nats=loss_nats)
        self.by.reports += 1
        if self.by.reports == self.by.killed_after:
            raise KeyboardInterrupt
        return answer

    def ended(self, trial: Trial) -> None: ...
