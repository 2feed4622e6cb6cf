"""A command's process, by way of its supervisor: started, asked to stop, waited for."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from scalelab.command import supervisor
from scalelab.command.render import Rendered
from scalelab.errors import Refused


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: by its exit status, by a signal, or (None of both) why it never began, or nobody knows."""

    status: int | None = None
    signal: int | None = None
    why: str = ""

    def __str__(self) -> str:
        if self.signal is not None:
            return f"ended by {signal.Signals(self.signal).name}"
        return self.why if self.status is None else f"exit status {self.status}"


@dataclass(kw_only=True)
class Process:
    """A running command; leaving the context ends it, whatever has happened."""

    rendered: Rendered
    folder: Path
    grace_seconds: float
    _process: "subprocess.Popen[bytes]" = field(init=False)
    _said: bytes = field(default=b"", init=False)
    _asked: bool = field(default=False, init=False)

    def __enter__(self) -> "Process":
        """Start it.

        Raises:
            Refused: where what an earlier launch has started still runs in the folder, and cannot be ended.
        """
        folder = str(self.folder.resolve())
        if not supervisor.ended(folder, grace_seconds=self.grace_seconds):
            left = ", ".join(map(str, supervisor.marked(folder)))
            raise Refused(
                f"{folder}: process {left} of an earlier launch still runs there and does not end: end it first"
            )
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, **self.rendered.env}, start_new_session=True,
        )  # fmt: skip
        asked = {
            "argv": self.rendered.argv, "cwd": None if self.rendered.cwd is None else str(self.rendered.cwd),
            "log": str(self.rendered.log), "grace_seconds": self.grace_seconds,
        }  # fmt: skip
        _write(self._stdin, json.dumps(asked))
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()  # as good as "stop"
        self.wait()
        self._stdout.close()

    def poll(self, seconds: float) -> Ended | None:
        """How it ended; None where it still runs after this time."""
        ready, _, _ = select.select([self._stdout], [], [], seconds)
        if not ready:
            return None
        chunk = os.read(self._stdout.fileno(), 1 << 16)
        self._said += chunk
        return None if chunk and not self._said.endswith(b"\n") else self._ended()

    def stop(self) -> None:
        """Ask it to end: SIGTERM, after the grace SIGKILL."""
        if not self._asked:
            self._asked = True
            _write(self._stdin, "stop")

    def wait(self) -> Ended:
        """How it ended."""
        while (ended := self.poll(60.0)) is None:
            pass
        return ended

    def _ended(self) -> Ended:
        if not self._said:  # the supervisor was killed: nobody but us can end what it has started
            supervisor.ended(str(self.folder.resolve()), grace_seconds=self.grace_seconds)
            self._process.wait()
            return Ended(why="its supervisor was killed")
        said = json.loads(self._said)
        self._process.wait()
        if "error" in said:
            return Ended(why=f"cannot be started: {said['error']}")
        code = said["code"]
        return Ended(signal=-code) if code < 0 else Ended(status=code)

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout


def _write(pipe: IO[bytes], line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the supervisor is gone, which `poll` finds
        pipe.write(line.encode() + b"\n")
        pipe.flush()
