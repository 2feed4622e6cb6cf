"""Claims: who is at work on what, on any node of a shared file system, with no lock that a network breaks.

A claim is a file NAME.N made with O_EXCL, which NFS has done atomically since version 3; flock(2) is not used, as
mounts with `nolock` keep it to one node. Its holder touches it every few seconds. It is taken over by making NAME.N+1,
which one taker alone can; the holder of N, should it still live, finds that it holds it no more (`Claim.held`) and
keeps its hands off.

What is assumed of the file system: O_EXCL is atomic, and opening a file shows its present times (NFS: close-to-open).
The age of a claim is read by the clock that stamps files, never by that of a node; where nodes stamp files themselves
(Lustre), a claim that looks old must in addition stand still while it is watched. So clocks that differ cost time and
never give one run to two processes.
"""

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

LEASE_SECONDS = float(os.environ.get("SCALELAB_LEASE_SECONDS", "120"))  # a claim that was last touched before is free
TOUCHES_A_LEASE = 8
POLL_SECONDS = 0.05

_HELD: dict[tuple[int, Path], "Claim"] = {}  # by process and file: what is to be touched
_TOUCHING: dict[int, threading.Thread] = {}  # by process: threads do not survive a fork


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process: its machine since it was started, its number there, when it began, and what tells it from itself."""

    host: str
    boot: str
    pid: int
    started: str
    token: str

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine that can be looked up."""
        return (self.host, self.boot) == _here()

    @property
    def is_gone(self) -> bool:
        """Whether it is known without waiting to have ended."""
        return self.is_here and _started(self.pid) != self.started


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of this process. `mark` is its file without the number."""

    mark: Path
    number: int
    holder: Holder

    @property
    def file(self) -> Path:
        return _file(self.mark, self.number)

    @property
    def held(self) -> bool:
        """Whether it still holds: nobody has taken this process for dead and taken over."""
        return last(self.mark) == self.number and read(self.file) == self.holder

    def release(self) -> None:
        """Give it up; whoever asks next has it at once."""
        _HELD.pop((os.getpid(), self.file), None)
        if self.held:
            self.file.unlink(missing_ok=True)


def claim(mark: Path) -> Claim | None:
    """Claim what `mark` stands for; None where a living process has it, this one too.

    A holder on another node that has not been heard of for long is watched for a while before it is taken for dead.

    Args:
        mark: the claim's file without its number, absolute or not; its folder is there.

    Raises:
        OSError: where the folder cannot be written to.
    """
    mark = mark.absolute()
    while True:
        newest = last(mark)
        if newest and not is_free(_file(mark, newest)):
            return None
        mine = Claim(mark=mark, number=newest + 1, holder=_me())
        if _made(mine):
            for number in range(max(1, newest - 1), newest + 1):  # those of the dead
                _file(mark, number).unlink(missing_ok=True)
            _touch_from_now_on(mine)
            return mine


@contextlib.contextmanager
def claimed(mark: Path, *, patience_seconds: float = 300.0) -> Iterator[Claim]:
    """Hold a claim, waiting for whoever has it: for what takes moments.

    Raises:
        TimeoutError: where it was not to be had in time.
    """
    until = time.monotonic() + patience_seconds
    while (found := claim(mark)) is None:
        if time.monotonic() > until:
            raise TimeoutError(f"{mark} was held by another process for {patience_seconds:g} s")
        time.sleep(POLL_SECONDS)
    try:
        yield found
    finally:
        found.release()


def last(mark: Path) -> int:
    """The number of the newest claim; 0 where there is none."""
    start = f"{mark.name}."
    numbers = [name.removeprefix(start) for name in os.listdir(mark.parent) if name.startswith(start)]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def read(file: Path) -> Holder | None:
    """Whose claim a file is; None where it is absent or torn."""
    try:
        return Holder(**json.loads(file.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def looks_alive(file: Path, *, now: float) -> bool:
    """Whether the holder of a claim's file is at work, as far as that can be seen without touching anything.

    Args:
        file: of the newest claim.
        now: seconds since 1970, by this node's clock.
    """
    who, touched = read(file), _touched(file)
    if touched is None or (who is not None and who.is_gone):
        return False
    return (who is not None and who.is_here) or now - touched < LEASE_SECONDS


def is_free(file: Path) -> bool:
    """Whether whoever made a claim's file has released it or is dead."""
    who, before = read(file), _touched(file)
    if before is None or (who is not None and who.is_gone):
        return True
    if who is not None and who.is_here:
        return False
    if _clock(file.parent) - before < LEASE_SECONDS:
        return False
    until = time.monotonic() + 2.5 * LEASE_SECONDS / TOUCHES_A_LEASE
    while time.monotonic() < until:
        time.sleep(LEASE_SECONDS / TOUCHES_A_LEASE / 4)
        if _touched(file) != before:
            return False
    return True


def _file(mark: Path, number: int) -> Path:
    return mark.with_name(f"{mark.name}.{number}")


def _made(mine: Claim) -> bool:
    try:
        with mine.file.open("x") as file:
            file.write(json.dumps(asdict(mine.holder)))
    except FileExistsError:
        return False
    return mine.held


def _touched(file: Path) -> float | None:
    """When a file was last touched; opened for it, as a network file system may remember older times."""
    try:
        with file.open("rb") as opened:
            return os.fstat(opened.fileno()).st_mtime
    except FileNotFoundError:
        return None


def _clock(folder: Path) -> float:
    """The time now by the clock that stamps the files of a folder."""
    probe = folder / f".clock.{uuid.uuid4().hex}"
    probe.touch()
    try:
        found = _touched(probe)
    finally:
        probe.unlink(missing_ok=True)
    return time.time() if found is None else found


def _touch_from_now_on(mine: Claim) -> None:
    pid = os.getpid()
    _HELD[pid, mine.file] = mine
    if pid not in _TOUCHING:
        _TOUCHING[pid] = threading.Thread(target=_touch, args=(pid,), daemon=True, name="scalelab-claims")
        _TOUCHING[pid].start()


def _touch(pid: int) -> None:
    while True:
        time.sleep(LEASE_SECONDS / TOUCHES_A_LEASE)
        for whose, file in list(_HELD):
            if whose == pid:
                # Released in between, or the file system is away for a moment: the next touch may do. Nothing is made.
                with contextlib.suppress(OSError):
                    os.utime(file)


def _me() -> Holder:
    host, boot = _here()
    return Holder(host=host, boot=boot, pid=os.getpid(), started=_started(os.getpid()), token=uuid.uuid4().hex)


@cache
def _here() -> tuple[str, str]:
    """This machine since it was started, as far as its processes see each other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return platform.node(), f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node(), uuid.uuid4().hex  # not Linux: as if every process had a node of its own


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty where there is none, or nobody can say."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]
