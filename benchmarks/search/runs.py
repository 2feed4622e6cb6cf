"""One search of one problem, a record a trial; and the cache of them, a file of JSON lines for each.

    CACHE / PROBLEM / SAMPLER[@BATCH] / SEED.jsonl

A file with too few lines is of a run that was killed, and is run again. Nothing here knows whether a sampler's code has
changed since: delete its folder then.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.problems import PROBLEMS
from search.samplers import SAMPLERS


@dataclass(frozen=True, kw_only=True)
class Record:
    """One trial.

    Attributes:
        loss: as observed, nats; None where it diverged.
        spent: its cost in full runs.
        regret: of the configuration as it ran, in % of the best loss at the target.
        raised: the same of its settings at the target's scale.
        recommended: the same of what the sampler recommends after it; None where it leaves that to the rule for all.
        seconds: to ask for it and to be told of it.
        recommending_seconds: to recommend.
    """

    params: dict[str, Any]
    loss: float | None
    spent: float
    regret: float
    raised: float
    recommended: float | None
    seconds: float
    recommending_seconds: float


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to run. `batch` trials are asked for before any of them is told."""

    problem: str
    sampler: str
    seed: int
    trials: int
    batch: int = 1

    def path(self, cache: Path) -> Path:
        folder = self.sampler if self.batch == 1 else f"{self.sampler}@{self.batch}"
        return cache / self.problem / folder / f"{self.seed}.jsonl"


def records(job: Job) -> Iterator[Record]:
    """The trials of a search as they end.

    Raises:
        Unavailable: where the problem's data or the sampler's package is absent.
    """
    problem = PROBLEMS[job.problem](job.seed)
    search = SAMPLERS[job.sampler](problem, job.seed, job.trials)
    for first in range(0, job.trials, job.batch):
        asked = []
        for number in range(first, min(first + job.batch, job.trials)):
            start = time.perf_counter()
            handle, params = search.ask()
            asked.append((number, handle, params, time.perf_counter() - start))
        for number, handle, params, asking in asked:
            # The noise is the trial's, whatever its configuration: searches of one seed differ by what they ask.
            loss = problem.observed(params, np.random.default_rng([job.seed, number]))
            start = time.perf_counter()
            search.tell(handle, loss, problem.cost_flops(params))
            told = time.perf_counter()
            advice = search.recommend()
            yield Record(
                params=params,
                loss=loss if math.isfinite(loss) else None,
                spent=problem.cost_flops(params) / problem.full_flops,
                regret=problem.regret(params),
                raised=problem.regret(problem.raised(params)),
                recommended=None if advice is None else problem.regret({**advice, **problem.target}),
                seconds=asking + told - start,
                recommending_seconds=time.perf_counter() - told,
            )


def read(path: Path) -> list[Record]:
    """The records of a file; a last line that was cut off is left out."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Record(**json.loads(line)) for line in lines]


def finish(job: Job, cache: Path) -> None:
    """Runs a job unless the cache has all its trials."""
    path = job.path(cache)
    if len(read(path)) >= job.trials:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for k, record in enumerate(records(job)):
        with path.open("a" if k else "w") as file:
            file.write(json.dumps(asdict(record)) + "\n")
