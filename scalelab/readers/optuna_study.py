"""Optuna studies, from their storage or journal: a row a trial, its columns named as `Study.trials_dataframe` does."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from scalelab.errors import Refused, unknown

NEEDED = "reading an Optuna study needs optuna: pip install 'scalelab[optuna]'"
LEFT_OUT = ["datetime_start", "datetime_complete", "duration", "state"]


def storage(url: str) -> pd.DataFrame:
    """The study of a storage, `sqlite:///path.db` or another of SQLAlchemy's URLs, with #NAME where it has several.

    A database is opened to be read: Optuna makes its tables where there are none, so those are looked for first.

    Raises:
        Refused: where the database is absent, is not Optuna's, lacks the study, or its driver is not installed.
    """
    address, _, name = url.partition("#")
    said = shown(url)
    try:
        import optuna
        import sqlalchemy
    except ImportError:
        raise Refused(f"{said}: {NEEDED}") from None
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
        return _trials(said, optuna.storages.RDBStorage(address), name)
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, RuntimeError) as error:
        # SQLAlchemy says ImportError for a driver that is absent, Optuna RuntimeError for a schema of another version.
        raise Refused(f"{said} cannot be read as an Optuna storage: {str(error).splitlines()[0]}") from None


def shown(source: str) -> str:
    """A source as it may be printed: a storage's URL without its password.

    >>> shown("postgresql://me:secret@host/sweeps#lr")
    'postgresql://me:***@host/sweeps#lr'
    """
    return re.sub(r"(?<=://)([^:/@]*):[^@]*@", r"\1:***@", source)


def storage_file(path: Path, name: str = "") -> pd.DataFrame:
    """A SQLite file by its path alone."""
    return storage(f"sqlite:///{path}" + (f"#{name}" if name else ""))


def journal(path: Path, name: str = "") -> pd.DataFrame:
    """A study from the file of a `JournalStorage`."""
    try:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise Refused(f"{path}: {NEEDED}") from None
    with path.open("rb") as file:
        if b'"op_code":' not in file.readline():
            raise ValueError("it is no Optuna journal")
    return _trials(str(path), JournalStorage(JournalFileBackend(str(path))), name)


def _trials(source: str, kept: Any, name: str) -> pd.DataFrame:
    import optuna

    names = optuna.get_all_study_names(kept)
    if not names:
        raise Refused(f"{source} holds no study")
    if not name and len(names) > 1:
        raise Refused(f"{source} holds {len(names)} studies, {', '.join(names)}: name one, {source}#{names[0]}")
    if name and name not in names:
        raise unknown("study", name, names)
    study = optuna.load_study(study_name=name or names[0], storage=kept)
    frame = study.trials_dataframe()
    if frame.empty:
        raise Refused(f"study {study.study_name!r} of {source} has no trials")
    ended = frame["state"].isin(["COMPLETE", "PRUNED", "FAIL"]).to_numpy()
    trials = [trial for trial, done in zip(study.get_trials(deepcopy=False), ended, strict=True) if done]
    frame = frame[ended].drop(columns=[column for column in LEFT_OUT if column in frame]).reset_index(drop=True)
    frame["outcome"] = [_outcome(trial) for trial in trials]
    frame.insert(0, "run", [f"{study.study_name}/{trial.number}" for trial in trials])
    if study.directions[0] is optuna.study.StudyDirection.MAXIMIZE:
        # What is maximized is no loss: its column is not offered as one.
        frame = frame.rename(
            columns={name: f"maximized_{name}" for name in map(str, frame) if name.startswith("value")}
        )
    return frame.drop(columns="number")


def _outcome(trial: Any) -> str:
    """OK, or DIVERGED where the objective (or the last value that it reported) is not finite, or FAILED.

    Optuna fails a trial whose objective is NaN, and keeps no value of it: what it reported on the way is the evidence.
    """
    reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    seen = list(trial.values or []) if trial.state.name == "COMPLETE" else reported[-1:]
    if not np.isfinite([float(value) for value in seen]).all():
        return "DIVERGED"
    return "OK" if trial.state.name == "COMPLETE" else "FAILED"
