"""Searches of a formula: all of a search but Hydra's launcher and the training, so that a trial takes milliseconds."""

import io
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from rich.console import Console

from scalelab import commands
from scalelab.plan import planned, swept
from scalelab.readers.optuna_study import open_study
from scalelab.search.loop import search
from scalelab.search.problem import problem_of
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, Trial
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

    def __call__(self, *overrides: str, n_trials: int = 4, sampler: str = "random") -> str:
        """What the search says, on one line."""
        asked = swept(
            ["hydra/sweeper=optuna", *TINY, "study=s", f"hydra/sweeper/sampler={sampler}",
             f"hydra.sweeper.n_trials={n_trials}", *overrides]
        )  # fmt: skip
        said = io.StringIO()
        problem = problem_of(asked)

        def launch(jobs: list[list[str]]) -> None:
            for run in planned(asked.job(job) for job in jobs).runs:
                run.folder.path.mkdir(parents=True, exist_ok=True)
                run.folder.write(self._trial(run.spec))

        at_work = partial(search, problem, launch, lambda line: print(line, file=said))
        self.status = commands.search(asked, at_work, console=Console(file=said, width=200), dry_run=False)
        return squeezed(said.getvalue())

    def _trial(self, spec: RunSpec) -> Trial:
        self.specs.append(spec)
        try:
            loss = self.loss(spec)
        except RuntimeError as error:
            return Trial(spec=spec, outcome=Outcome.FAILED, loss_nats=None, reason=str(error))
        outcome = Outcome.DIVERGED if loss is None else Outcome.OK
        return Trial(spec=spec, outcome=outcome, loss_nats=loss, cost_flops=spec.cost_flops, seconds=0.5)


def trials(source: str = "runs/s") -> list[FrozenTrial]:
    return open_study(source).get_trials()


def kept() -> dict[str, Any]:
    plain = json.loads(Path("runs/s/search.json").read_text())
    assert isinstance(plain, dict)
    return plain
