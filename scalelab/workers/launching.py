"""A batch of Hydra's jobs, trained by the pool: what is composed, grouped, retried, and returned."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, setup_globals
from omegaconf import DictConfig

from scalelab import stopping
from scalelab.claims import claim
from scalelab.errors import Refused
from scalelab.jobs import CLAIM
from scalelab.parallel import Parallel
from scalelab.trials import TRIAL_FILE, Outcome, Trial
from scalelab.values import integer
from scalelab.workers.composed import Composed, Composer
from scalelab.workers.hydra_files import hydra_files
from scalelab.workers.pool import POOL, Died, devices_for
from scalelab.workers.serve import Answer, Asked, Order
from scalelab.workers.tasks import Task, tasks


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to launch; the keys are those of conf/hydra/launcher/fused.yaml."""

    workers: int | None = None
    members: int | None = None
    retries: int = 1

    @classmethod
    def of(cls, *, workers: Any, members: Any, retries: Any) -> "Settings":
        """Settings from a configuration; `Refused` on what is not accepted."""
        found = cls(
            workers=None if workers is None else integer("hydra.launcher.workers", workers),
            members=None if members is None else integer("hydra.launcher.members", members),
            retries=integer("hydra.launcher.retries", retries),
        )
        for name, value, least in (("workers", found.workers, 1), ("members", found.members, 1),
                                   ("retries", found.retries, 0)):  # fmt: skip
            if value is not None and value < least:
                raise Refused(f"hydra.launcher.{name}={value}: accepted is a whole number ≥ {least}")
        return found


def launched(
    job_overrides: Sequence[Sequence[str]], settings: Settings, *, loader: ConfigLoader, config: DictConfig, first: int
) -> list[JobReturn]:
    """The returns of these jobs, numbered from `first`, in their order, when all have ended."""
    setup_globals()
    refuse_what_needs_hydras_own_job(config, launcher="fused")
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    composer = Composer(loader=loader, config=config)
    jobs = {number: composer.job(overrides, number) for number, overrides in enumerate(job_overrides, start=first)}
    batch = _Batch(jobs=jobs, settings=settings)
    alike: dict[tuple[str, int, bool, Parallel], dict[int, Composed]] = {}
    for number, job in jobs.items():
        alike.setdefault((job.device, job.threads, job.compiled, job.parallel), {})[number] = job
    for (device, threads, _, parallel), group in alike.items():
        devices = devices_for(device, threads=threads * parallel.processes, workers=settings.workers, gpus=_gpus)
        if parallel.processes > 1 and device != "cpu":
            if settings.workers != 1:
                raise Refused(
                    f"hydra/launcher=fused with runs of {parallel.processes} processes, which have a GPU each: accepted"
                    " is hydra.launcher.workers=1, one run at a time"
                )
            devices = [device]
        cut = tasks(
            {number: job.spec for number, job in group.items()}, workers=len(devices),
            members=1 if parallel.spreads else settings.members, on_gpu=device.startswith("cuda"),
        )  # fmt: skip
        with stopping.heeding(signal.SIGTERM):
            POOL.run(cut, devices, order=batch.order, done=batch.done)
    return [returned(job, batch.came[number]) for number, job in jobs.items()]


@dataclass(kw_only=True)
class _Batch:
    """Jobs under way, and what came of those that have ended: a loss, none, or an error."""

    jobs: dict[int, Composed]
    settings: Settings
    came: dict[int, float | Exception | None] = field(default_factory=dict)

    def order(self, task: Task, device: str) -> Order:
        jobs = [self.jobs[number] for number in task.jobs]
        return Order(
            jobs=[asked(job) for job in jobs],
            device=device,
            threads=jobs[0].threads,
            members=task.members,
            compiled=jobs[0].compiled,
            halvings=task.deaths,
            parallel=jobs[0].parallel,
        )

    def done(self, task: Task, answer: Answer | Died) -> list[Task]:
        """Note what came of a task; what is to be tried again."""
        if isinstance(answer, list):
            self.came.update(zip(task.jobs, answer, strict=True))
            return []
        left = [number for number in task.jobs if not self._is_final(number)]
        if isinstance(answer, Died):
            if task.deaths < self.settings.retries:
                return [replace(task, jobs=tuple(left), deaths=task.deaths + 1)] if left else []
            for number in left:
                error = RuntimeError(f"{self.jobs[number].folder.path}: {answer.reason}")
                self.came[number] = error
                leave_failed(self.jobs[number], str(error))
            return []
        if len(task.jobs) > 1:  # whose fault it is shows when each runs alone, as the others are to
            return [replace(task, jobs=(number,), cost=task.cost / len(task.jobs)) for number in left]
        for number in left:
            self.came[number] = answer
            if not (self.jobs[number].folder.path / TRIAL_FILE).exists():  # it went wrong before the run was begun
                leave_failed(self.jobs[number], f"{type(answer).__name__}: {answer}")
        return []

    def _is_final(self, number: int) -> bool:
        trial = None
        with suppress(Refused):  # a folder of another run, or with a corrupt trial, which its worker has said
            trial = self.jobs[number].folder.final(self.jobs[number].spec)
        if trial is not None:
            self.came[number] = trial.loss_nats
        return trial is not None


def asked(job: Composed) -> Asked:
    """A job as an order has it."""
    return Asked(
        spec=job.spec, folder=job.folder, tracker=job.tracker, pruning=job.pruning, files=hydra_files(job)
    )  # fmt: skip


def leave_failed(job: Composed | Asked, reason: str) -> None:
    """A FAILED trial for a run whose worker could not leave one; none in a folder that is another's or not to be had.

    What is returned to Hydra says why in any case.
    """
    with suppress(Refused, OSError):
        job.folder.path.mkdir(parents=True, exist_ok=True)
        mine = claim(job.folder.path / CLAIM)
        if mine is not None and job.folder.final(job.spec) is None:
            job.folder.write(Trial(spec=job.spec, outcome=Outcome.FAILED, loss_nats=None, reason=reason))
        if mine is not None:
            mine.release()


def returned(job: Composed, came: float | Exception | None) -> JobReturn:
    """What Hydra is given back for a job: FAILED with what was raised, or COMPLETED with its loss."""
    found = JobReturn(
        overrides=list(job.overrides), working_dir=os.getcwd(), task_name=JobRuntime.instance().get("name")
    )
    found.return_value = came
    found.status = JobStatus.FAILED if isinstance(came, Exception) else JobStatus.COMPLETED
    return found


def refuse_what_needs_hydras_own_job(config: DictConfig, *, launcher: str) -> None:
    """Refuse what Hydra does around each job, of a launcher whose workers train many at once."""
    for key, usual in (("callbacks", {}), ("job.env_set", {}), ("job.env_copy", []), ("job.chdir", False)):
        at = config.hydra
        for name in key.split("."):
            at = at[name]
        if at and at != usual:
            raise Refused(f"hydra.{key}={at} with hydra/launcher={launcher}, whose workers train many jobs at once:"
                          " choose hydra/launcher=basic or joblib")  # fmt: skip


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
