"""Jobs: specs with folders → the trials in those folders, run where they are not there yet.

A finished run (OK or DIVERGED) is left as it is. One writer at a time (`claims`): a folder that another process, on
whatever node, is working in is waited for by nobody and touched by nobody. What was begun and saved is gone on with.
Asked to stop, by SIGTERM for one, a process saves what it trains and leaves.
"""

import platform
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from scalelab import __version__, command, stopping
from scalelab.claims import LEASE_SECONDS, Claim, claim
from scalelab.parallel import USUAL, Parallel, by_torchrun, restarted
from scalelab.secrets import scrubbed
from scalelab.spec import RunSpec, as_plain
from scalelab.trackers import NoTracker, Tracker, aside, waited_for
from scalelab.trials import FINAL, Outcome, RunFolder, Trial

if TYPE_CHECKING:
    from scalelab.train import Beginning, Pruner, Watch

CLAIM = ".claim"  # of a run folder, see `claims`


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
    """Writes the curve of a run that is still ours to its folder, with the attempt's number and the time of day."""

    folder: RunFolder
    attempt: int
    claim: Claim

    def record(self, values: Mapping[str, Any]) -> None:
        if self.claim.held:
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
    parallel: Parallel = USUAL,
) -> list[Trial | None]:
    """The trial of each job: read if it is finished, else trained, together where they are one program.

    Runs of several processes (`parallel`) are trained one after another, in processes of torchrun.

    A trial is in its folder as soon as its run has ended, whatever becomes of the others. Runs that fail (out of
    memory, a bug, a full disk) leave a FAILED trial with the reason, and the error goes on; launched again, they run
    again, from their checkpoints where they have any.

    Returns:
        A trial a job; None where another process is training it.
    """
    if parallel.processes > 1 and not by_torchrun():
        from scalelab.train.spread.torchrun import in_processes

        return [
            in_processes(job, job.spec, job.folder, claim_at=job.folder.path / CLAIM, device=device, threads=threads,
                         parallel=parallel)
            for job in jobs
        ]  # fmt: skip
    trials: dict[int, Trial] = {}
    with ExitStack() as locks:
        mine: dict[int, _Claimed] = {}
        for index, job in enumerate(jobs):
            job.folder.path.mkdir(parents=True, exist_ok=True)
            if final := job.folder.final(job.spec):
                trials[index] = final
            elif found := _claimed(job.folder):
                locks.callback(found.release)
                # Whoever was at work on it until now may have finished it.
                if final := job.folder.final(job.spec):
                    trials[index] = final
                    found.release(done=True)
                else:
                    mine[index] = _Claimed(job=replace(job, tracker=aside(job.tracker)), claim=found)
        if mine:
            ran = _run(
                list(mine.values()), device=device, threads=threads, members=members, compiled=compiled,
                parallel=parallel,
            )  # fmt: skip
            trials.update(zip(mine, ran, strict=True))
    return [trials.get(index) for index in range(len(jobs))]


def _claimed(folder: RunFolder) -> Claim | None:
    """The claim of a run folder; started again by torchrun, that of the attempt before may seem alive for a while."""
    until = time.monotonic() + (2 * LEASE_SECONDS if restarted() else 0)
    while (found := claim(folder.path / CLAIM)) is None and time.monotonic() < until:
        time.sleep(1)
    return found


@dataclass(frozen=True, kw_only=True)
class _Claimed:
    """A job that is this process's to do."""

    job: Job
    claim: Claim


def _run(
    claimed: Sequence[_Claimed], *, device: str, threads: int, members: int | None, compiled: bool, parallel: Parallel
) -> list[Trial]:
    provenance = {
        "scalelab": __version__,
        "host": platform.node(),
        "python": platform.python_version(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    kept: dict[str, Trial] = {}
    jobs = [each.job for each in claimed]

    def keep(each: _Claimed, trial: Trial) -> None:
        trial = replace(trial, provenance={**provenance, **trial.provenance})
        kept[each.job.spec.fingerprint] = trial
        _keep(trial, each)

    with (
        waited_for([job.tracker for job in jobs]),
        stopping.heeding(signal.SIGTERM),
        _failing(claimed, kept, provenance),
    ):
        for job in jobs:
            job.folder.announce(job.spec)
            job.tracker.start(job.spec.fingerprint, as_plain(job.spec), job.folder.path)
        if own := [each for each in claimed if each.job.spec.command is None]:
            from scalelab import train  # torch: not needed to find that a run is finished

            train.run(
                [each.job.spec for each in own],
                watches=[_watch(each, partial(keep, each)) for each in own],
                device=device,
                threads=threads,
                members=members,
                compiled=compiled,
                parallel=parallel,
            )
        for each in claimed:
            if each.job.spec.command is not None:
                _command(each, partial(keep, each), device=device, threads=threads)
    return [kept[job.spec.fingerprint] for job in jobs]


def _watch(each: _Claimed, keep: Callable[[Trial], None]) -> "Watch":
    from scalelab.train import CHECKPOINT_FILE, Watch

    job = each.job
    curve = _Curve(job.folder, attempt=job.folder.next_attempt(), claim=each.claim)
    return Watch(
        observers=[curve, job.tracker], ended=keep, checkpoint=job.folder.path / CHECKPOINT_FILE,
        begins=_beginning(job.begins), keep_checkpoint=job.keep_checkpoint, pruner=job.pruner,
    )  # fmt: skip


def _command(each: _Claimed, keep: Callable[[Trial], None], *, device: str, threads: int) -> None:
    """Run a job's command; one at a time, with the folder for itself."""
    job, attempt = each.job, each.job.folder.next_attempt()
    command.run(
        job.spec,
        command.Place(folder=job.folder.path, device=device, threads=threads, attempt=attempt),
        observers=[_Curve(job.folder, attempt=attempt, claim=each.claim), job.tracker],
        ended=keep,
        pruner=job.pruner,
        held=lambda: each.claim.held,
    )


def _beginning(folder: RunFolder | None) -> "Beginning | None":
    from scalelab.train import CHECKPOINT_FILE, Beginning

    if folder is None:
        return None
    records = tuple({k: v for k, v in record.items() if k != "attempt"} for record in folder.metrics())
    return Beginning(spec=folder.read().spec, checkpoint=folder.path / CHECKPOINT_FILE, records=records)


@contextmanager
def _failing(claimed: Sequence[_Claimed], kept: Mapping[str, Trial], provenance: Mapping[str, str]) -> Iterator[None]:
    """Whatever goes wrong, those who have not ended have failed, and their folders say why."""
    started = time.perf_counter()
    try:
        yield
    except Exception as error:
        reason = scrubbed("".join(traceback.format_exception_only(error)).strip())
        seconds = (time.perf_counter() - started) / len(claimed)
        for each in claimed:
            if each.job.spec.fingerprint not in kept:
                failed = Trial(
                    spec=each.job.spec, outcome=Outcome.FAILED, loss_nats=None, seconds=seconds, reason=reason,
                    provenance=dict(provenance),
                )  # fmt: skip
                with suppress(OSError):  # of a full disk the error itself tells
                    _keep(failed, each)
        raise


def _keep(trial: Trial, claimed: _Claimed) -> None:
    if not claimed.claim.held:  # this process was taken for dead: the run is somebody else's now
        return
    job = claimed.job
    job.folder.write(trial)  # ours first, then the copy: whatever a tracker does, the trial is kept
    if trial.outcome in FINAL and not job.keep_checkpoint and trial.spec.command is None:
        from scalelab.train import discard

        discard(job.folder.path)
    job.tracker.finish(trial)
    if trial.outcome in FINAL:
        claimed.claim.release(done=True)
