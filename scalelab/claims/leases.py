"""Claims: made, looked at, released."""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from scalelab.claims.holder import LEASE_SECONDS, Holder, this_process
from scalelab.claims.touching import TOUCHES_A_LEASE, TOUCHING

WATCHED_TOUCHES = 2.5  # that must have been missed while watched
POLL_SECONDS = 0.05
RELEASED = 0.0  # the time of a claim that was released; to set it takes no space on a full disk

_AHEAD: dict[tuple[str, str], float] = {}  # seconds by which another node's stamps were seen to be ahead of ours


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
        """Whether it still holds, in this process: nobody has taken it for dead and taken over, or removed it."""
        try:
            newest = last(self.mark)
        except FileNotFoundError:  # with its folder
            return False
        return newest == self.number and self.file in TOUCHING.files and read(self.file) == self.holder

    def release(self, *, done: bool = False) -> None:
        """Give it up; whoever asks next has it at once. Released before, or taken over: nothing is done.

        Args:
            done: what was claimed is finished, and whoever claims it next looks for that: no file is left.
        """
        if not self.held:
            TOUCHING.end(self.file, lambda: None)
            return

        def give_up() -> None:
            if done:
                _remove_before(self.mark, self.number)
                self.file.unlink()
            else:
                os.utime(self.file, (RELEASED, RELEASED))

        with contextlib.suppress(FileNotFoundError):
            TOUCHING.end(self.file, give_up)


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
        mine = Claim(mark=mark, number=newest + 1, holder=this_process())
        if _made(mine):
            _remove_before(mark, newest)
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
        return Holder(**json.loads(file.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def looks_alive(file: Path, *, now: float) -> bool:
    """Whether the holder of a claim's file is at work, as far as that can be seen without touching anything.

    Args:
        file: of the newest claim.
        now: seconds since 1970, by this node's clock.
    """
    who, touched = read(file), _touched(file)
    if touched is None or touched == RELEASED:
        return False
    alive = None if who is None else who.alive
    return now - touched < _lease(who) if alive is None else alive


def is_free(file: Path) -> bool:
    """Whether whoever made a claim's file has released it or is dead."""
    who, before = read(file), _touched(file)
    if before is None or before == RELEASED:
        return True
    alive = None if who is None else who.alive
    if alive is not None:
        return not alive
    node = (who.host, who.boot) if who else ("", "")
    if abs(_clock(file.parent) + _AHEAD.get(node, 0.0) - before) < _lease(who):
        return False
    until = time.monotonic() + WATCHED_TOUCHES * _lease(who) / TOUCHES_A_LEASE
    while time.monotonic() < until:
        time.sleep(_lease(who) / TOUCHES_A_LEASE / 4)
        now = _touched(file)
        if now is None or now == RELEASED:
            return True
        if now != before:
            _AHEAD[node] = now - _clock(file.parent)
            return False
    return True


def _file(mark: Path, number: int) -> Path:
    return mark.with_name(f"{mark.name}.{number}")


def _lease(who: Holder | None) -> float:
    return LEASE_SECONDS if who is None else who.lease_seconds


def _made(mine: Claim) -> bool:
    """Whether the file of a claim could be made, and is the newest."""
    try:
        with mine.file.open("xb") as file:
            TOUCHING.begin(mine.file)
            file.write(json.dumps(asdict(mine.holder)).encode())
    except FileExistsError:
        return False
    except BaseException:  # a full disk, an interruption: whoever comes next need not wait for nobody
        _withdraw(mine)
        raise
    if mine.held:
        return True
    _withdraw(mine)  # a listing while others take over may miss the newest
    return False


def _withdraw(mine: Claim) -> None:
    TOUCHING.end(mine.file, lambda: mine.file.unlink(missing_ok=True))


def _remove_before(mark: Path, number: int) -> None:
    """Remove what is older than a number; that one stays beside its successor, for listings that miss what is new."""
    for old in range(number - 1, max(0, number - 3), -1):
        with contextlib.suppress(OSError):
            _file(mark, old).unlink()


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
