"""Who holds a claim: a process, and whether it lives as far as that can be seen from here."""

import os
import platform
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LEASE_SECONDS = float(os.environ.get("SCALELAB_LEASE_SECONDS", "120"))  # for which a claim holds that is not touched


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process: its machine since it was started, its number there, when it began, and what tells it from itself."""

    host: str
    boot: str
    pid: int
    started: str
    token: str
    lease_seconds: float

    @property
    def alive(self) -> bool | None:
        """Whether it lives; None where that cannot be seen from here."""
        if not self.boot or (self.host, self.boot) != here():
            return None
        started = _started(self.pid)
        return None if started is None else started == self.started


def this_process() -> Holder:
    """The holder of a new claim."""
    host, boot = here()
    pid, token = os.getpid(), uuid.uuid4().hex
    return Holder(host=host, boot=boot, pid=pid, started=_began(pid), token=token, lease_seconds=LEASE_SECONDS)


@cache
def _began(own: int) -> str:
    """When this process started; by its number, which a fork changes."""
    return _started(own) or ""


@cache
def here() -> tuple[str, str]:
    """This machine since it was started, as far as its processes see each other; "" where that is not to be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return platform.node(), f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node(), ""  # not Linux: as if every process had a node of its own


def _started(pid: int) -> str | None:
    """When a process of this machine started, in the kernel's ticks; "" where it has ended, None where it is hidden."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return None  # another user's, where /proc is mounted with hidepid
    return "" if words[0] in "ZX" else words[19]
