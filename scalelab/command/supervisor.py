"""Between scalelab and a command: starts it, and ends it with all that it has started.

A program of its own, of the standard library alone (python supervisor.py; asked by one line of JSON on its standard
input, it answers by lines on its standard output). It is there because a process that is killed with -9 can do nothing
more: its end of the pipe is closed by the kernel, which is how the supervisor learns of it, as it does of "stop". A
death signal of the kernel (PR_SET_PDEATHSIG) would be set between fork and exec, which is not safe in a process with
threads, reaches one process alone and does not wait for a checkpoint.

Whatever a command starts has SCALELAB_RUN_FOLDER in its environment, in whatever session: by that it is found.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

MARK = "SCALELAB_RUN_FOLDER"
LINGER_SECONDS = 5.0  # what a command has left behind is given to end by itself


def marked(folder: str) -> list[int]:
    """The living processes of the run in `folder`, absolute, but this one; empty where there is no /proc."""
    wanted, found = f"{MARK}={folder}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def ended(folder: str, *, grace_seconds: float) -> bool:
    """End the processes of a run: asked, and after that time killed. Whether there is none left."""
    _signal(marked(folder), signal.SIGTERM)
    until = time.monotonic() + grace_seconds
    while (left := marked(folder)) and time.monotonic() < until:
        time.sleep(0.05)
    until = time.monotonic() + LINGER_SECONDS
    while left and time.monotonic() < until:
        _signal(left, signal.SIGKILL)
        time.sleep(0.02)
        left = marked(folder)
    return not left


def left_to_end(folder: str, *, seconds: float) -> None:
    """Wait for what a command has left behind, as W&B's writer, which still has records to write."""
    until = time.monotonic() + seconds
    while marked(folder) and time.monotonic() < until:
        time.sleep(0.05)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    happened: queue.SimpleQueue[str] = queue.SimpleQueue()  # its put may be called by a signal's handler
    signal.signal(signal.SIGTERM, lambda *_: happened.put("stop"))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        with open(asked["log"], "ab") as log:
            process = subprocess.Popen(
                asked["argv"], cwd=asked["cwd"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, restore_signals=True,
            )  # fmt: skip
    except OSError as error:
        _say({"error": f"{asked['argv'][0]}: {error.strerror or error}"})
        return
    _when(sys.stdin.readline, lambda: happened.put("stop"))
    _when(process.wait, lambda: happened.put("ended"))
    if happened.get() == "stop":
        _end(process, happened, asked["grace_seconds"])
    patience = min(LINGER_SECONDS, asked["grace_seconds"])
    left_to_end(os.environ[MARK], seconds=patience)
    ended(os.environ[MARK], grace_seconds=patience)
    _kill(process.pid, signal.SIGKILL)  # where there is no /proc: what is left of its group
    _say({"code": process.wait()})


def _when(waited: Callable[[], object], told: Callable[[], None]) -> None:
    """Tell of something as soon as it has happened."""

    def wait() -> None:
        waited()
        told()

    threading.Thread(target=wait, daemon=True).start()


def _end(process: "subprocess.Popen[bytes]", happened: "queue.SimpleQueue[str]", grace_seconds: float) -> None:
    """SIGTERM to the command's group, and SIGKILL if it has not ended after the time that it is given."""
    _kill(process.pid, signal.SIGTERM)
    until = time.monotonic() + grace_seconds
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            if happened.get(timeout=left) == "ended":
                return
    _kill(process.pid, signal.SIGKILL)
    process.wait()


def _kill(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _say(answer: dict[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
