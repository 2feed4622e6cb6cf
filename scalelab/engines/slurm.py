"""SLURM as an engine: orders become the tasks of job arrays, by submitit.

A ticket is a job's id, 12 or 12_3. What came of a job is never read back from what submitit pickles.
"""

import contextlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalelab.engines.slurm_settings import SlurmSettings, check_folder, job_name, slurm_settings
from scalelab.engines.slurm_task import Training
from scalelab.errors import Refused
from scalelab.workers.serve import Order

if TYPE_CHECKING:
    from submitit import SlurmExecutor

FOLDER = ".submitit"  # in a study: scripts, orders, logs
ASK_SECONDS = 60.0  # for a command of SLURM's to answer
ENDED = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
})  # fmt: skip
HELD = "launch failed requeued held"  # by SLURM, on a node that is not in order: nothing starts it any more
UNKNOWN = "Invalid job id"  # squeue of a job that ended a while ago


@dataclass(frozen=True, kw_only=True)
class SlurmEngine:
    """Jobs of SLURM's with these settings; an order needs what its device and threads say."""

    settings: SlurmSettings

    @classmethod
    def of(cls, **given: Any) -> "SlurmEngine":
        """The engine of a launcher's settings.

        Raises:
            Refused: on a setting that is not accepted, and where there is no submitit or no sbatch.
        """
        settings = slurm_settings(given)
        if importlib.util.find_spec("submitit") is None:
            raise Refused("hydra/launcher=slurm needs submitit: pip install 'scalelab[slurm]'")
        for command in ("sbatch", "squeue", "scancel", "srun"):
            if shutil.which(command) is None:
                raise Refused(f"hydra/launcher=slurm needs {command} on PATH: launch on a login node of the cluster")
        return cls(settings=settings)

    def submit(self, orders: Sequence[Order]) -> list[str]:
        """Hand orders over, those alike as one array; the ticket of each.

        Raises:
            Refused: where SLURM does not take them, with what it said.
        """
        alike: dict[tuple[Path, int], list[int]] = {}
        for place, order in enumerate(orders):
            alike.setdefault((_study(order), _threads(order)), []).append(place)
        tickets: dict[int, str] = {}
        for places in alike.values():
            found = self.submit_as(uuid.uuid4().hex[:12], [orders[place] for place in places])
            tickets.update(zip(places, found, strict=True))
        return [tickets[place] for place in range(len(orders))]

    def submit_as(self, label: str, orders: Sequence[Order]) -> list[str]:
        """Hand over orders of one study that need as many cores each, as one array."""
        for order in orders:
            self._check(order)
        study, threads = _study(orders[0]), _threads(orders[0])
        check_folder(study)
        folder = study / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        executor = self._executor(folder)
        executor.update_parameters(**self.settings.parameters(name=job_name(study, label), threads=threads))
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with _outside_of_a_job(), contextlib.redirect_stderr(io.StringIO()):  # which submitit prints, too
                jobs = executor.submit_array([Training(order=order) for order in orders])
        except (FailedJobError, FailedSubmissionError) as error:
            lines = str(error).strip().splitlines() or ["sbatch failed"]
            raise Refused(f"SLURM does not take the jobs of {study}: {lines[-1]}") from None
        return [job.job_id for job in jobs]

    def submitted_as(self, label: str) -> dict[int, str] | None:
        """The tickets of an array by the places of its orders; None where SLURM does not answer just now."""
        asked = _asked("squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i %j")
        if asked is None or asked.returncode:
            return None
        found = [line.split(None, 1) for line in asked.stdout.splitlines()]
        return {int(job.partition("_")[2] or 0): job for job, name in found if name.strip().endswith(f"-{label}")}

    def alive(self, tickets: Collection[str]) -> set[str]:
        """Those that are in the queue; all where SLURM does not answer just now."""
        if not tickets:
            return set()
        jobs = ",".join(sorted({ticket.partition("_")[0] for ticket in tickets}))
        asked = _asked("squeue", "--noheader", "--array", "--states=all", f"--jobs={jobs}", "--format=%i %T %r")
        if asked is not None and asked.returncode and UNKNOWN in asked.stderr:
            return set()
        if asked is None or asked.returncode:
            return set(tickets)
        found = [[*line.split(None, 2), ""] for line in asked.stdout.splitlines()]
        return {job for job, state, reason, *_ in found if state not in ENDED and HELD not in reason} & set(tickets)

    def why(self, ticket: str) -> str:
        """How a job ended, with the last line of its log."""
        asked = _asked("scontrol", "show", "job", "--oneliner", ticket)
        known = dict(re.findall(r"(JobState|Reason|ExitCode|StdErr)=(\S+)", asked.stdout)) if asked else {}
        if not known:
            return f"SLURM job {ticket} ended, and SLURM no longer says how: see {FOLDER}/{ticket}_0_log.err"
        log = Path(known.get("StdErr", ""))
        said = f"SLURM job {ticket} ended as {known.get('JobState')}, exit code {known.get('ExitCode')}"
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        own = [line.strip() for line in lines if line.strip() and not line.startswith(("srun:", "slurmstepd"))]
        if own:
            said += f": {own[-1][:200]}"
        return f"{said}; see {log}"

    def cancel(self, tickets: Collection[str]) -> None:
        """End these; what they train is saved first, as far as the cluster's KillWait lets it."""
        if tickets:
            _asked("scancel", *sorted(tickets))

    def _check(self, order: Order) -> None:
        if order.device not in ("cpu", "cuda"):
            raise Refused(f"device={order.device} with hydra/launcher=slurm: accepted are cpu and cuda, of which a job"
                          " sees its own")  # fmt: skip
        gpus, cpus, threads = self.settings.gpus, self.settings.cpus, _threads(order)
        needs = 0 if order.device == "cpu" else order.parallel.processes
        if needs != gpus and "gres" not in self.settings.additional:
            raise Refused(f"device={order.device} with hydra.launcher.gpus={gpus}: accepted is {needs}, one a process"
                          " of a run; for more GPUs at the same time raise hydra.launcher.workers")  # fmt: skip
        if cpus is not None and cpus < threads:
            raise Refused(f"hydra.launcher.cpus={cpus} for {threads} threads: accepted are as many or more, or null")

    def _executor(self, folder: Path) -> "SlurmExecutor":
        from submitit import SlurmExecutor

        return SlurmExecutor(folder, max_num_timeout=self.settings.requeues, python=self.settings.python)


def _study(order: Order) -> Path:
    return order.jobs[0].folder.path.parent


def _threads(order: Order) -> int:
    return order.threads * order.parallel.processes


def _asked(*command: str) -> subprocess.CompletedProcess[str] | None:
    """What a command answered; None where it did not in time."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=False)
    return None


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Without what SLURM has told this process of its own job, if it runs in one: sbatch would hand it on."""
    inside = "SLURM_JOB_ID" in os.environ
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if inside and name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")) and name != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
