"""One job: a spec and a folder → the trial in that folder, run if it is not there yet.

A finished run (OK or DIVERGED) is left as it is. One writer at a time: a folder that another process is working in is
waited for by nobody and touched by nobody.
"""

import platform
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from scalelab import __version__
from scalelab.spec import RunSpec, as_plain
from scalelab.trackers import NoTracker, Tracker
from scalelab.trials import Outcome, RunFolder, Trial

LOCK_FILE = ".lock"  # held by the operating system for a living process only: kill -9 releases it


@dataclass(frozen=True)
class _Curve:
    """Writes a run's curve to its folder, with the number of the attempt."""

    folder: RunFolder
    attempt: int

    def record(self, values: Mapping[str, Any]) -> None:
        self.folder.append({"attempt": self.attempt, **values})


def run_job(
    spec: RunSpec, folder: RunFolder, *, tracker: Tracker | None = None, device: str = "cpu", threads: int = 1
) -> Trial | None:
    """The trial of `spec` in `folder`: read if it is finished, else trained; None if another process is training it.

    A run that fails (out of memory, a bug, a full disk) leaves a FAILED trial with the reason, and the error goes on;
    launched again, it runs again.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    if final := folder.final(spec):
        return final
    try:
        with FileLock(folder.path / LOCK_FILE, timeout=0):
            # Whoever held the lock until now may have finished it.
            return folder.final(spec) or _run(spec, folder, tracker or NoTracker(), device, threads)
    except Timeout:
        return None


def _run(spec: RunSpec, folder: RunFolder, tracker: Tracker, device: str, threads: int) -> Trial:
    from scalelab import train  # torch: not needed to find that a run is finished

    curve = _Curve(folder, attempt=folder.next_attempt())
    started = time.perf_counter()
    provenance = {
        "scalelab": __version__,
        "host": platform.node(),
        "python": platform.python_version(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        tracker.start(spec.fingerprint, as_plain(spec), folder.path)
        (trial,) = train.run([spec], observers=[[curve, tracker]], device=device, threads=threads)
        trial = replace(trial, provenance={**provenance, **trial.provenance})
    except Exception as error:
        reason = "".join(traceback.format_exception_only(error)).strip()
        seconds = time.perf_counter() - started
        failed = Trial(
            spec=spec, outcome=Outcome.FAILED, loss_nats=None, seconds=seconds, reason=reason, provenance=provenance
        )
        _keep(failed, folder, tracker)
        raise
    _keep(trial, folder, tracker)
    return trial


def _keep(trial: Trial, folder: RunFolder, tracker: Tracker) -> None:
    folder.write(trial)  # ours first, then the copy: whatever a tracker does, the trial is kept
    tracker.finish(trial)
