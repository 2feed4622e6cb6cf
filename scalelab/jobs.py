"""Jobs: specs with folders → the trials in those folders, run where they are not there yet.

A finished run (OK or DIVERGED) is left as it is. One writer at a time: a folder that another process is working in is
waited for by nobody and touched by nobody. What was begun and saved is gone on with.
"""

import platform
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from scalelab import __version__
from scalelab.spec import RunSpec, as_plain
from scalelab.trackers import NoTracker, Tracker
from scalelab.trials import FINAL, Outcome, RunFolder, Trial

if TYPE_CHECKING:
    from scalelab.train import Beginning, Pruner

LOCK_FILE = ".lock"  # held by the operating system for a living process only: kill -9 releases it


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to be there: its spec, its folder, and who else is told of it.

    `pruner` may end it before its horizon. It begins with the checkpoint of `begins`, a run that has ended, where it
    has none of its own and does the same until there; its own last one stays when it has ended if `keep_checkpoint`.
    """

    spec: RunSpec
    folder: RunFolder
    tracker: Tracker = field(default_factory=NoTracker)
    pruner: "Pruner | None" = None
    begins: RunFolder | None = None
    keep_checkpoint: bool = False


@dataclass(frozen=True)
class _Curve:
    """Writes a run's curve to its folder, with the number of the attempt and the time of day."""

    folder: RunFolder
    attempt: int

    def record(self, values: Mapping[str, Any]) -> None:
        self.folder.append({"attempt": self.attempt, **values, "time": round(time.time(), 3)})


def run_job(
    spec: RunSpec, folder: RunFolder, *, tracker: Tracker | None = None, device: str = "cpu", threads: int = 1
) -> Trial | None:
    """The trial of one job; see `run_jobs`."""
    (trial,) = run_jobs([Job(spec=spec, folder=folder, tracker=tracker or NoTracker())], device=device, threads=threads)
    return trial


def run_jobs(
    jobs: Sequence[Job],
    *,
    device: str = "cpu",
    threads: int = 1,
    members: int | None = None,
    compiled: bool = False,
) -> list[Trial | None]:
    """The trial of each job: read if it is finished, else trained, together where they are one program.

    A trial is in its folder as soon as its run has ended, whatever becomes of the others. Runs that fail (out of
    memory, a bug, a full disk) leave a FAILED trial with the reason, and the error goes on; launched again, they run
    again, from their checkpoints where they have any.

    Returns:
        A trial a job; None where another process is training it.
    """
    trials: dict[int, Trial] = {}
    with ExitStack() as locks:
        mine: dict[int, Job] = {}
        for index, job in enumerate(jobs):
            job.folder.path.mkdir(parents=True, exist_ok=True)
            if final := job.folder.final(job.spec):
                trials[index] = final
            elif _locked(job.folder, locks):
                # Whoever held the lock until now may have finished it.
                if final := job.folder.final(job.spec):
                    trials[index] = final
                else:
                    mine[index] = job
        if mine:
            ran = _run(list(mine.values()), device=device, threads=threads, members=members, compiled=compiled)
            trials.update(zip(mine, ran, strict=True))
    return [trials.get(index) for index in range(len(jobs))]


def _locked(folder: RunFolder, locks: ExitStack) -> bool:
    try:
        locks.enter_context(FileLock(folder.path / LOCK_FILE, timeout=0))
    except Timeout:
        return False
    return True


def _run(jobs: Sequence[Job], *, device: str, threads: int, members: int | None, compiled: bool) -> list[Trial]:
    from scalelab import train  # torch: not needed to find that a run is finished

    provenance = {
        "scalelab": __version__,
        "host": platform.node(),
        "python": platform.python_version(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    kept: dict[str, Trial] = {}

    def watch(job: Job) -> train.Watch:
        def keep(trial: Trial) -> None:
            trial = replace(trial, provenance={**provenance, **trial.provenance})
            kept[job.spec.fingerprint] = trial
            _keep(trial, job)

        curve = _Curve(job.folder, attempt=job.folder.next_attempt())
        return train.Watch(
            observers=[curve, job.tracker], ended=keep, checkpoint=job.folder.path / train.CHECKPOINT_FILE,
            begins=_beginning(job.begins), keep_checkpoint=job.keep_checkpoint, pruner=job.pruner,
        )  # fmt: skip

    with _failing(jobs, kept, provenance):
        for job in jobs:
            job.folder.announce(job.spec)
            job.tracker.start(job.spec.fingerprint, as_plain(job.spec), job.folder.path)
        train.run(
            [job.spec for job in jobs],
            watches=[watch(job) for job in jobs],
            device=device,
            threads=threads,
            members=members,
            compiled=compiled,
        )
    return [kept[job.spec.fingerprint] for job in jobs]


def _beginning(folder: RunFolder | None) -> "Beginning | None":
    from scalelab.train import CHECKPOINT_FILE, Beginning

    if folder is None:
        return None
    records = tuple({k: v for k, v in record.items() if k != "attempt"} for record in folder.metrics())
    return Beginning(spec=folder.read().spec, checkpoint=folder.path / CHECKPOINT_FILE, records=records)


@contextmanager
def _failing(jobs: Sequence[Job], kept: Mapping[str, Trial], provenance: Mapping[str, str]) -> Iterator[None]:
    """Whatever goes wrong, those who have not ended have failed, and their folders say why."""
    started = time.perf_counter()
    try:
        yield
    except Exception as error:
        reason = "".join(traceback.format_exception_only(error)).strip()
        seconds = (time.perf_counter() - started) / len(jobs)
        for job in jobs:
            if job.spec.fingerprint not in kept:
                failed = Trial(
                    spec=job.spec, outcome=Outcome.FAILED, loss_nats=None, seconds=seconds, reason=reason,
                    provenance=dict(provenance),
                )  # fmt: skip
                _keep(failed, job)
        raise


def _keep(trial: Trial, job: Job) -> None:
    from scalelab.train import CHECKPOINT_FILE

    job.folder.write(trial)  # ours first, then the copy: whatever a tracker does, the trial is kept
    if trial.outcome in FINAL and not job.keep_checkpoint:
        (job.folder.path / CHECKPOINT_FILE).unlink(missing_ok=True)
    job.tracker.finish(trial)
