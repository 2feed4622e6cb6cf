"""Optuna studies where they are kept: a storage's URL, a SQLite or journal file, the folder of a search of ours.

A study is opened to be read: nothing is made where there is none, and nothing is changed where there is one.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from scalelab.errors import Refused, unknown

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

JOURNAL = "search.journal"  # in the folder of a search of ours
AT_WORK = ".at_work"  # there, too: who is at work on it


def open_study(source: str | Path) -> "Study":
    """The study of a source, named after a # where there are several: study.db#NAME.

    Raises:
        Refused: where it is absent, of another kind, cannot be read, or holds several studies of which none is named.
    """
    if "://" in str(source):
        return study_of_storage(str(source))
    path, name = without_name(str(source))
    if path.is_dir():
        if not (path / JOURNAL).exists():
            raise Refused(f"{path} holds no {JOURNAL}: give the folder of a search, a *.db or *.journal file, or a URL")
        path /= JOURNAL
    if not path.exists():
        raise Refused(f"{source} does not exist: give the folder of a search, a *.db or *.journal file, or a URL")
    return study_of_file(path, name)


def without_name(source: str) -> tuple[Path, str]:
    """The path of a file, and what follows its #, the name of a study.

    >>> without_name("absent.db#lr")
    (PosixPath('absent.db'), 'lr')
    """
    path, _, name = source.rpartition("#")
    return (Path(source), "") if not path or Path(source).exists() else (Path(path), name)


def study_of_file(path: Path, name: str = "") -> "Study":
    """A study from a file that is there, by its suffix; `Refused` where it is none of them, or cannot be read."""
    if path.suffix.lower() not in STUDIES:
        raise unknown("kind of study", path.suffix or path.name, STUDIES)
    return STUDIES[path.suffix.lower()](path, name)


def study_of_storage(url: str) -> "Study":
    """The study of a storage, `sqlite:///path.db` or another of SQLAlchemy's URLs, with #NAME where it has several.

    Optuna makes its tables in a database where there are none, so those are looked for first.

    Raises:
        Refused: where the database is absent, is not Optuna's, lacks the study, or its driver is not installed.
    """
    import optuna
    import sqlalchemy

    address, _, name = url.partition("#")
    said = shown(url)
    if address.startswith("sqlite:"):
        path = Path(address.partition(":///")[2])
        if not path.is_file():
            raise Refused(f"{said}: there is no file {path}; accepted is sqlite:///PATH, or sqlite:////ABSOLUTE/PATH")
        address = f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true"
    try:
        engine = sqlalchemy.create_engine(address)
        is_optuna = sqlalchemy.inspect(engine).has_table("trial_values")
        engine.dispose()
        if not is_optuna:
            raise Refused(f"{said} is a database without an Optuna study: check the path")
        return _named(said, optuna.storages.RDBStorage(address), name)
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, RuntimeError) as error:
        # SQLAlchemy says ImportError for a driver that is absent, Optuna RuntimeError for a schema of another version.
        raise Refused(f"{said} cannot be read as an Optuna storage: {str(error).splitlines()[0]}") from None


def study_of_database(path: Path, name: str = "") -> "Study":
    """A study from a SQLite file, by its path alone."""
    return study_of_storage(f"sqlite:///{path}" + (f"#{name}" if name else ""))


def study_of_journal(path: Path, name: str = "") -> "Study":
    """A study from the file of a `JournalStorage`; `Refused` where it is none, or torn in the middle."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with path.open("rb") as file:
        if (first := file.readline()) and b'"op_code":' not in first:  # empty: of a search that begins just now
            raise Refused(f"{path} cannot be read as a journal: it is no Optuna journal")
    try:
        return _named(str(path), JournalStorage(JournalFileBackend(str(path))), name)
    except Refused:
        raise
    except ValueError as error:  # JSON's
        raise Refused(f"{path} cannot be read as a journal: {error}") from None


def shown(source: str) -> str:
    """A source as it may be printed: a storage's URL without its password.

    >>> shown("postgresql://me:secret@host/sweeps#lr")
    'postgresql://me:***@host/sweeps#lr'
    """
    return re.sub(r"(?<=://)([^:/@]*):[^@]*@", r"\1:***@", source)


def _named(source: str, kept: "BaseStorage", name: str) -> "Study":
    import optuna

    names = optuna.get_all_study_names(kept)
    if not names:
        raise Refused(f"{source} holds no study")
    if not name and len(names) > 1:
        raise Refused(f"{source} holds {len(names)} studies, {', '.join(names)}: name one, {source}#{names[0]}")
    if name and name not in names:
        raise unknown("study", name, names)
    return optuna.load_study(study_name=name or names[0], storage=kept)


STUDIES: dict[str, Callable[[Path, str], "Study"]] = {
    ".db": study_of_database,
    ".sqlite3": study_of_database,
    ".log": study_of_journal,
    ".journal": study_of_journal,
}
