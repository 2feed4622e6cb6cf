"""Who is at work on a search: drivers, each with a claim in the study's folder that other nodes can judge.

A trial that runs belongs to one driver, whose name it has. Whoever gets the claim of a driver that is no more has its
trials; a driver that was taken for dead finds that, and begins again under another name.
"""

import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scalelab import claims
from scalelab.claims import Claim, claim
from scalelab.errors import Refused
from scalelab.readers.optuna_study import AT_WORK
from scalelab.readers.optuna_trials import WORK


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is kept with a trial that runs. Runs are named by their fingerprints.

    `owner` is None where it waits for anybody; `since` is in seconds since 1970. `tries` is how often a run was handed
    over without having come further than `steps`. `label` and `handed` are of runs that are being handed over: their
    tickets are not noted yet.
    """

    owner: str | None
    since: float
    tries: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)
    tickets: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    handed: tuple[str, ...] = ()

    @property
    def plain(self) -> dict[str, Any]:
        return asdict(self)


def work_of(attributes: Mapping[str, Any]) -> Work | None:
    """What a trial's user attributes say; None where its asker was killed before it said anything."""
    kept = attributes.get(WORK)
    return None if kept is None else Work(**{**kept, "handed": tuple(kept["handed"])})


@dataclass(kw_only=True)
class Driver:
    """This process as one that is at work on a study; `folder` is that of the drivers."""

    folder: Path
    name: str
    claim: Claim

    @property
    def held(self) -> bool:
        """Whether it has not been taken for dead."""
        return self.claim.held

    @property
    def is_to_stop(self) -> bool:
        return _stop_file(self.folder, self.name).exists()

    def begin_again(self) -> None:
        """Another name, as what belonged to the old one is somebody else's now."""
        self.name, self.claim = _claimed(self.folder)


@contextmanager
def at_work(study: Path) -> Iterator[Driver]:
    """Be a driver of the study in this folder; asked to end by SIGTERM, others need not wait to take over."""
    folder = study / AT_WORK
    folder.mkdir(parents=True, exist_ok=True)
    name, mine = _claimed(folder)
    driver = Driver(folder=folder, name=name, claim=mine)

    def end(number: int, _: object) -> None:
        driver.claim.release(done=True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, end) if in_main else None
    try:
        yield driver
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
        _stop_file(folder, driver.name).unlink(missing_ok=True)
        driver.claim.release(done=True)


def _claimed(folder: Path) -> tuple[str, Claim]:
    name = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    mine = claim(folder / name)
    if mine is None:
        raise Refused(f"{folder / name} is another process's: launch again")
    return name, mine


def _stop_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.stop"


def estates(study: Path, owners: Iterable[str]) -> Iterator[tuple[str, Claim]]:
    """The claims of those owners that are no more, had by this process alone; each is to be released.

    One on another node that has not been heard of for long is watched for a while first.
    """
    for owner in owners:
        if found := claim(study / AT_WORK / owner):
            yield owner, found


def living(study: Path) -> dict[str, claims.Holder]:
    """The drivers that are at work on a study, as far as can be seen without touching anything."""
    folder = study / AT_WORK
    newest: dict[str, int] = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        name, _, number = file.name.rpartition(".")
        if number.isdecimal() and name not in NO_DRIVERS:
            newest[name] = max(newest.get(name, 0), int(number))
    found = {}
    for name, last in sorted(newest.items()):
        file = folder / f"{name}.{last}"
        who = claims.read(file)
        if who is not None and claims.looks_alive(file, now=time.time()):
            found[name] = who
    return found


JOURNAL_LOCK, FINAL = "journal", "final"  # other claims of that folder
NO_DRIVERS = (JOURNAL_LOCK, FINAL)


def ask_to_stop(study: Path, name: str) -> None:
    """Have a driver, on whatever node, end as soon as it looks."""
    _stop_file(study / AT_WORK, name).touch()


def forget_stop(study: Path, name: str) -> None:
    """Nobody of that name is there any more."""
    _stop_file(study / AT_WORK, name).unlink(missing_ok=True)
