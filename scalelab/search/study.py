"""The Optuna study behind a search: where it is kept, and whether it is this search's."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from scalelab.errors import Refused
from scalelab.readers.optuna_study import JOURNAL, shown
from scalelab.readers.optuna_trials import IDENTITY
from scalelab.search.objectives import Told
from scalelab.search.problem import Problem
from scalelab.search.space import Space

LOCK = ".search.lock"  # held by the operating system for a living process only: kill -9 releases it
OURS = "another study=NAME, with warm_start to begin from what that one found"


@dataclass(frozen=True, kw_only=True)
class Study:
    """An open study: Optuna's, with the storage that it is kept in."""

    optuna: optuna.Study
    storage: BaseStorage

    def ask(self, space: Space) -> FrozenTrial:
        """A new trial with its parameters."""
        number = self.optuna.ask(space.distributions).number
        return self.optuna.get_trials(deepcopy=False)[number]

    def tell(self, trial: FrozenTrial, found: Told, objectives: Sequence[str]) -> None:
        """What came of a trial, its attributes first: killed in between, it is told again."""
        of_study = self.storage.get_study_id_from_name(self.optuna.study_name)
        at = self.storage.get_trial_id_from_study_id_trial_number(of_study, trial.number)
        for name, value in found.attributes.items():
            self.storage.set_trial_user_attr(at, name, value)
        if found.values is None:
            self.optuna.tell(trial.number, state=TrialState.FAIL)
        else:
            self.optuna.tell(trial.number, [found.values[name] for name in objectives])


def existing(problem: Problem) -> optuna.Study | None:
    """The study of a search, if it was begun; nothing is written.

    Raises:
        Refused: on a storage that cannot be reached or read, and on a study that is another search's.
    """
    with _readable(problem):
        storage = _storage(problem, create=False)
        if storage is None or problem.name not in optuna.get_all_study_names(storage):
            return None
        study = optuna.load_study(study_name=problem.name, storage=storage)
        if study.user_attrs or study.get_trials(deepcopy=False):
            _check(problem, study)
        return study


@contextmanager
def opened(problem: Problem, sampler: optuna.samplers.BaseSampler) -> Iterator[Study]:
    """The study of a search, begun if it was not, for this process alone.

    Raises:
        Refused: as `existing`, and while another process is searching.
    """
    problem.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(problem.folder / LOCK, timeout=0):
            with _readable(problem):
                storage = _storage(problem, create=True)
                assert storage is not None
                study = optuna.create_study(
                    storage=storage, sampler=sampler, study_name=problem.name,
                    directions=["minimize"] * len(problem.settings.objectives), load_if_exists=True,
                )  # fmt: skip
                if study.user_attrs or study.get_trials(deepcopy=False):
                    _check(problem, study)
                    sampler.reseed_rng()  # or it would draw again what it drew first
                else:
                    study.set_user_attr(IDENTITY, {**problem.identity, "folder": str(problem.folder.resolve())})
            yield Study(optuna=study, storage=storage)
    except Timeout:
        raise Refused(f"{problem.folder} is being searched by another process: wait for it, or end it") from None


@contextmanager
def _readable(problem: Problem) -> Iterator[None]:
    import sqlalchemy

    url = problem.settings.storage
    where = problem.folder / JOURNAL if url is None else shown(url)
    try:
        yield
    except (
        sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        # SQLAlchemy says ImportError for an absent driver, Optuna RuntimeError for another schema, JSON ValueError.
        if isinstance(error, Refused):
            raise
        raise Refused(f"storage {where} cannot be used: {str(error).splitlines()[0]}") from None


def _storage(problem: Problem, *, create: bool) -> BaseStorage | None:
    """The storage that holds the study; None where there is none and none is to be made."""
    url = problem.settings.storage
    if url is None:
        path = problem.folder / JOURNAL
        if not create and not path.exists():
            return None
        if create:
            _mend(path)
        return JournalStorage(JournalFileBackend(str(path)))
    import sqlalchemy

    if "://" not in url:
        raise Refused(f"storage={url}: accepted is a URL, sqlite:///PATH or another of SQLAlchemy's, or null")
    file = url.partition(":///")[2] if url.startswith("sqlite") else ""
    if file and not Path(file).absolute().parent.is_dir():
        raise Refused(f"storage={url}: there is no folder {Path(file).parent}")
    if not create:
        if file and not Path(file).exists():
            return None
        engine = sqlalchemy.create_engine(url)
        has_studies = sqlalchemy.inspect(engine).has_table("studies")
        engine.dispose()
        if not has_studies:
            return None
    return RDBStorage(url)


def _mend(path: Path) -> None:
    """Undo what a killed writer left in a journal: its lock, and a line without an end. We hold the study's lock."""
    Path(f"{path}.lock").unlink(missing_ok=True)
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)


def _check(problem: Problem, study: optuna.Study) -> None:
    """Refuse the study of another problem, saying what differs."""
    kept: Mapping[str, Any] | None = study.user_attrs.get(IDENTITY)
    if kept is None:
        raise Refused(f"study {problem.name!r} is there and was not begun by scalelab: take {OURS}")
    for kind, asked in problem.identity.items():
        for name in {**kept[kind], **asked}:
            was, given = kept[kind].get(name, "absent"), asked.get(name, "absent")
            if was != given:
                said = f"study {problem.name!r} has other {kind.replace('_', ' ')}"
                raise Refused(f"{said}: {name} is {was} there and {given} here; take {OURS}")
    here = str(problem.folder.resolve())
    if problem.settings.storage is not None and kept["folder"] != here:
        raise Refused(f"study {problem.name!r} of that storage keeps its runs in {kept['folder']}, not {here}: set out")
