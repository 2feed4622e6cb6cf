"""A run in several processes of this machine: torchrun starts them, starts them again where one died, and ends them."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalelab import stopping
from scalelab.claims import Holder, claim
from scalelab.claims.holder import this_process
from scalelab.parallel import Parallel
from scalelab.secrets import scrubbed
from scalelab.spec import RunSpec
from scalelab.trials import TRIAL_FILE, Outcome, RunFolder, Trial

LOG_FILE = "torchrun.log"  # in the run folder: what the processes said, of a run that failed
FAILURE_FILE = ".failure"  # there: what went wrong first, and on which rank
RANK = "scalelab.workers.rank"  # the program of each process
POLL_SECONDS = 0.1
SHUTDOWN_SECONDS = 120  # for the others to end, or to save, when one has ended or all are asked to stop
# Else all attempts share torchrun's store, and whoever is started again reads there where others were before they died.
STORE_OF_ITS_OWN = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
FORWARDED = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2"  # to the processes, and not the end of torchrun before


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """What rank 0 is handed: a `jobs.Job`, how to train it, and whose order it is."""

    job: Any
    device: str
    threads: int
    parallel: Parallel
    launcher: Holder


def in_processes(
    job: Any, spec: RunSpec, folder: RunFolder, *, claim_at: Path, device: str, threads: int, parallel: Parallel
) -> Trial | None:
    """The trial of a job in processes of its own, of which rank 0 has the folder; None where others are at work on it.

    Raises:
        RuntimeError: where it failed, with the reason; the folder says it too.
        Stopped: asked to stop, when all have saved.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    if final := folder.final(spec):
        return final
    if (free := claim(claim_at)) is None:
        return None
    free.release()
    before = _written(folder)
    order = Ordered(job=job, device=device, threads=threads, parallel=parallel, launcher=this_process())
    with stopping.heeding(signal.SIGTERM):
        status = _torchrun(pickle.dumps(order), folder.path, parallel, threads=threads)
        if final := folder.final(spec):
            return final
    if (mine := claim(claim_at)) is None:
        return None
    try:
        if status == 0:  # asked to stop by others than this process
            raise stopping.Stopped
        reason = _why(folder.path, status)
        if _written(folder) == before:  # what has ended it left no time to say so
            folder.write(Trial(spec=spec, outcome=Outcome.FAILED, loss_nats=None, reason=scrubbed(reason)))
        raise RuntimeError(f"{folder.path}: {reason}")
    finally:
        mine.release()


def _torchrun(order: bytes, folder: Path, parallel: Parallel, *, threads: int) -> int:
    """Hand an order to so many processes and wait for their end; torchrun's exit status."""
    with tempfile.TemporaryDirectory(prefix="scalelab-") as place:
        file, log = Path(place) / "order", folder / LOG_FILE
        file.write_bytes(order)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={parallel.processes}",
            f"--max-restarts={parallel.max_restarts}", f"--signals-to-handle={FORWARDED}",
            f"--shutdown-timeout={SHUTDOWN_SECONDS}", f"--log-dir={place}", "-m", RANK, str(file),
        ]  # fmt: skip
        with log.open("wb") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
                env={**os.environ, **STORE_OF_ITS_OWN, "OMP_NUM_THREADS": str(threads)},
            )  # fmt: skip
            with _ending(process):
                asked = False
                while process.poll() is None:
                    if stopping.asked() and not asked:
                        asked = True
                        process.send_signal(signal.SIGTERM)
                    time.sleep(POLL_SECONDS)
        if process.returncode == 0 or asked:
            sys.stderr.write(_warnings(log))
            log.unlink()
        return process.returncode


def _warnings(log: Path) -> str:
    """What the processes warned of, without what torchrun says of itself."""
    lines = log.read_text(errors="replace").splitlines(keepends=True)
    return "".join(line for line in lines if "Warning: " in line)


@contextmanager
def _ending(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Leave no process behind, whatever happens."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(SHUTDOWN_SECONDS + 10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _why(folder: Path, status: int) -> str:
    """What is known of how the processes failed, in one line."""
    file = folder / FAILURE_FILE
    if file.exists():
        said = file.read_text().splitlines()[0]
        file.unlink()
        return said
    return f"its processes ended with status {status}; what they said is in {LOG_FILE}"


def _written(folder: RunFolder) -> int | None:
    file = folder.path / TRIAL_FILE
    return file.stat().st_mtime_ns if file.exists() else None
