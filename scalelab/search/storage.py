"""Where a study is kept: a journal in its folder, or a database by its URL; what either does when it is away.

A URL stays as it was written, `${oc.env:NAME}` in place of a password, wherever it is kept; it is read here.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import optuna
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from scalelab.claims import Claim, claim
from scalelab.errors import Refused
from scalelab.readers.optuna_study import AT_WORK, JOURNAL, shown
from scalelab.search.owners import JOURNAL_LOCK

PATIENCE_SECONDS = 900.0  # with a storage that is away
# By driver, what makes a database that does not answer one that is away, within a minute.
LIBPQ = {"connect_timeout": 10, "keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3}
CONNECTING = {"psycopg": LIBPQ, "psycopg2": LIBPQ, "pymysql": {"connect_timeout": 10, "read_timeout": 60}}

T = TypeVar("T")


class JournalLock(BaseJournalFileLock):
    """A claim, whose holder may be killed at any moment; had, it finds the journal whole.

    Optuna's own locks are files of nobody's: one whose maker was killed is removed after 30 seconds, by several at once
    and so perhaps twice. A line that a killed writer left torn would make one with the next.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._mark = journal, journal.absolute().parent / AT_WORK / JOURNAL_LOCK
        self._claim: Claim | None = None

    def acquire(self) -> bool:
        self._mark.parent.mkdir(exist_ok=True)
        pause = 0.001
        while (found := claim(self._mark)) is None:
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        self._claim = found
        _mend(self._journal)
        return True

    def release(self) -> None:
        if self._claim is not None:
            self._claim.release()


def _mend(journal: Path) -> None:
    """Cut off a last line without an end."""
    with journal.open("rb+") as file:
        size = file.seek(0, 2)
        if not size or (file.seek(size - 1), file.read())[1] == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def storage_of(url: str | None, folder: Path, *, create: bool) -> BaseStorage | None:
    """The storage that holds the study of a folder; None where there is none and none is to be made."""
    if url is None:
        path = folder / JOURNAL
        if not create and not path.exists():
            return None
        return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalLock(path)))
    import sqlalchemy

    address = _resolved(url)
    if "://" not in address:
        raise Refused(f"storage={url}: accepted is a URL, sqlite:///PATH or another of SQLAlchemy's, or null")
    file = address.partition(":///")[2] if address.startswith("sqlite") else ""
    if file and not Path(file).absolute().parent.is_dir():
        raise Refused(f"storage={shown(url)}: there is no folder {Path(file).parent}")
    if not create:
        if file and not Path(file).exists():
            return None
        engine = sqlalchemy.create_engine(address)
        try:
            if not sqlalchemy.inspect(engine).has_table("studies"):
                return None
        finally:
            engine.dispose()
    if address.startswith("sqlite"):
        return RDBStorage(address)
    driver = sqlalchemy.make_url(address).get_driver_name()
    return RDBStorage(address, engine_kwargs={"pool_pre_ping": True, "connect_args": CONNECTING.get(driver, {})})


def _resolved(url: str) -> str:
    try:
        return str(OmegaConf.create({"storage": url}).storage)
    except OmegaConfBaseException as error:
        raise Refused(f"storage={shown(url)}: {str(error).splitlines()[0]}") from None


@contextmanager
def readable(url: str | None, folder: Path) -> Iterator[None]:
    """A storage's errors as `Refused`, in one line; a study's journal is in its folder where there is no URL."""
    import sqlalchemy

    where = folder / JOURNAL if url is None else shown(url)
    try:
        yield
    except (
        sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        # SQLAlchemy says ImportError for an absent driver, Optuna RuntimeError for another schema, JSON ValueError.
        if isinstance(error, Refused):
            raise
        if isinstance(error, ImportError) and "psycopg" in str(error):
            raise Refused(f"storage {where} needs a driver: pip install 'scalelab[postgres]'") from None
        raise Refused(f"storage {where} cannot be used: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """The first line that says something; Optuna's own error has SQLAlchemy's as its cause."""
    return str(error.__cause__ or error).splitlines()[0]


def steadily(action: Callable[[], T], *, where: str, say: Callable[[str], None]) -> T:
    """What an action returns that may be repeated: a storage that is away is waited for.

    Args:
        action: reads and writes a storage; begun again it finds what it did.
        where: the storage, as it may be printed.
        say: is told once that it is away, and why.

    Raises:
        Refused: where it is away for `PATIENCE_SECONDS`.
    """
    import sqlalchemy

    away = (
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
        optuna.exceptions.StorageInternalError,
    )
    until, pause, told = time.monotonic() + PATIENCE_SECONDS, 0.2, False
    while True:
        try:
            return action()
        except away as error:
            reason = _reason(error)
        if time.monotonic() + pause > until:
            raise Refused(
                f"storage {where} was away for {PATIENCE_SECONDS:g} s ({reason}): what ended is in its folder and will"
                " be told, launch again when it is back"
            )
        if not told:
            say(f"storage {where} is away ({reason}): waiting for it")
            told = True
        time.sleep(pause)
        pause = min(2 * pause, 10.0)
