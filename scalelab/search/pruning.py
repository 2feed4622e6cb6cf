"""What a run of a search with a pruner needs where it is trained: who may end it, and what it begins with.

The search leaves `search.pruning.json` in the study's folder; a run that is launched with `pruning=N` belongs to trial
N of that study. Any number of processes report to it at the same time. They write what a run reports and what it was
answered; all else is the search's.
"""

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.pruners.continuing import CONTINUES
from scalelab.readers.optuna_study import JOURNAL, shown
from scalelab.readers.optuna_trials import IDENTITY
from scalelab.search.rule import Rule
from scalelab.search.storage import readable, steadily, storage_of
from scalelab.search.study import trial_id
from scalelab.search_views import quiet
from scalelab.spec import RunSpec
from scalelab.trials import RunFolder, Trial

PRUNING_FILE = "search.pruning.json"
PRUNING_VERSION = 1
ANSWERS = "scalelab:answers"  # system attribute: rung in tokens → why the run ends there, None where it goes on
PAUSES_SECONDS = (0.2, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 240.0)  # before a storage that did not answer is asked again

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """Of one run: who may end it, the run folder that it begins with, whether its last checkpoint is to stay."""

    pruner: "StudyPruner | None"
    begins: RunFolder | None
    keep_checkpoint: bool


def write_pruning(folder: Path, *, url: str | None, study: str, rule: Rule) -> None:
    """Leave in a study's folder what `pruning_of` reads there."""
    plain = {"version": PRUNING_VERSION, "storage": _absolute(url), "study": study, "rule": asdict(rule)}
    write_atomically(folder / PRUNING_FILE, json.dumps(plain, indent=1) + "\n")


def pruning_of(folder: RunFolder, number: int, spec: RunSpec) -> Pruning:
    """What the run in `folder` needs as one of trial `number` of the study whose folder that is in.

    The first tuning seed's run of a trial is judged; the others are run of those that go on, and nobody ends them.

    Raises:
        Refused: where there is no such search, it cannot be read, or the trial is none that runs.
    """
    where = folder.path.absolute().parent
    url, name, rule = _read(where)
    with quiet(), readable(url, where):
        pruner = rule.pruner()

        def loaded() -> tuple[BaseStorage, optuna.Study, list[FrozenTrial]]:
            storage = _storage(url, where)
            study = optuna.load_study(study_name=name, storage=storage, sampler=RandomSampler(), pruner=pruner)
            return storage, study, study.get_trials(deepcopy=False)

        storage, study, trials = steadily(loaded, where="" if url is None else shown(url), say=lambda line: None)
        if number >= len(trials) or trials[number].state is not TrialState.RUNNING:
            state = trials[number].state.name if number < len(trials) else "absent"
            raise Refused(f"pruning={number}: trial {number} of study {name!r} is {state}, accepted is one that runs")
        trial = copy.deepcopy(trials[number])
        steps = rule.steps(spec.horizon, trial, pruner, study)
    judged = rule.asks_runs and _is_judged(study, spec)
    asked = StudyPruner(study=study, storage=storage, url=url, folder=where, number=number, steps=steps)
    return Pruning(
        pruner=asked if judged and steps else None,
        begins=_beginning(where, trial, trials, spec),
        keep_checkpoint=rule.deepens,
    )


@dataclass(frozen=True, kw_only=True)
class StudyPruner:
    """A `train.Pruner` that asks a study's. `steps` are the steps after which it does → their rungs in tokens."""

    study: optuna.Study
    storage: BaseStorage
    url: str | None
    folder: Path
    number: int
    steps: Mapping[int, int] = field(default_factory=dict)

    @property
    def rungs(self) -> Sequence[int]:
        """The steps after which a validation loss is asked."""
        return tuple(self.steps)

    def stops(self, *, step: int, tokens: int, loss_nats: float) -> str | None:
        """Why the run is to end here, or None. An answer is kept: a run that was killed since is given it again.

        Raises:
            Refused: where the storage does not answer for some seconds.
        """
        with quiet(), readable(self.url, self.folder):
            return self._steadily(lambda: self._answer(self.steps[step], tokens, loss_nats))

    def ended(self, trial: Trial) -> None:
        """Nothing: what came of a trial is told by the search."""

    def _answer(self, rung: int, tokens: int, loss_nats: float) -> str | None:
        at = trial_id(self.storage, self.study.study_name, self.number)
        trial = copy.deepcopy(self.storage.get_trial(at))
        answers: dict[str, str | None] = trial.system_attrs.get(ANSWERS, {})
        before = next((answer for passed, answer in answers.items() if answer and int(passed) < rung), None)
        if before is None and str(rung) not in answers:
            if rung not in trial.intermediate_values:  # there already where another run's reports are gone on with
                self.storage.set_trial_intermediate_value(at, rung, loss_nats)
                trial.intermediate_values[rung] = loss_nats
            stops = self.study.pruner.prune(self.study, trial)
            name = type(self.study.pruner).__name__.removesuffix("Pruner")
            answers[str(rung)] = f"{name}: {loss_nats:.4f} nats after {tokens} tokens" if stops else None
            self.storage.set_trial_system_attr(at, ANSWERS, answers)
        return before or answers[str(rung)]

    def _steadily(self, action: Callable[[], T]) -> T:
        """Once more after a pause, a few times: a locked database, a file system that is away for a moment."""
        for pause in PAUSES_SECONDS:
            try:
                return action()
            except (OSError, sqlalchemy.exc.OperationalError, optuna.exceptions.StorageInternalError):
                time.sleep(pause)
        try:
            return action()
        except OSError as error:
            where = self.folder / JOURNAL if self.url is None else shown(self.url)
            raise Refused(f"storage {where} cannot be used: {error.strerror or error}") from None


def _read(folder: Path) -> tuple[str | None, str, Rule]:
    file = folder / PRUNING_FILE
    try:
        plain = json.loads(file.read_text())
        if plain["version"] != PRUNING_VERSION:
            raise Refused(
                f"{file} is of version {plain['version']}, accepted is {PRUNING_VERSION}: launch its search again"
            )
        rule = plain["rule"]
        return plain["storage"], plain["study"], Rule(**{**rule, "rungs": tuple(rule["rungs"])})
    except FileNotFoundError:
        raise Refused(
            f"pruning is given and {folder} has no {PRUNING_FILE}: it is for a search's runs, leave it out"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"{file} is corrupt ({error}): launch its search again") from None


def _storage(url: str | None, folder: Path) -> BaseStorage:
    """The storage of a study that is there; one a process, which reads on where it was."""
    journal = folder / JOURNAL
    inode = (
        journal.stat().st_ino if url is None and journal.exists() else 0
    )  # another file of that name is another study
    return _opened(url, folder, inode)


@lru_cache(maxsize=4)
def _opened(url: str | None, folder: Path, inode: int) -> BaseStorage:
    found = storage_of(url, folder, create=False)
    if found is None:
        raise Refused(f"{folder / JOURNAL if url is None else shown(url)} is not there: launch the search again")
    return found


def _is_judged(study: optuna.Study, spec: RunSpec) -> bool:
    """Whether it is a trial's only run, or that of its first seed."""
    seeds = [*study.user_attrs[IDENTITY]["tuning_seeds"].values()]
    return len(seeds) == 1 or spec.seed == seeds[0]


def _beginning(folder: Path, trial: FrozenTrial, trials: Sequence[FrozenTrial], spec: RunSpec) -> RunFolder | None:
    """The run of the same seed of the trial that this one continues."""
    before: int | None = trial.user_attrs.get(CONTINUES)
    if before is None:
        return None
    said = trials[before].user_attrs
    runs: dict[int, Any] = dict(zip(said.get("seeds", ()), said.get("fingerprint", "").split(), strict=False))
    return RunFolder(folder / runs[spec.seed]) if spec.seed in runs else None


def _absolute(url: str | None) -> str | None:
    """A URL that names the same SQLite file from any working directory."""
    if url is None or not url.startswith("sqlite"):
        return url
    found = sqlalchemy.make_url(url)
    if not found.database or found.database == ":memory:" or found.database.startswith("file:"):
        return url
    return found.set(database=str(Path(found.database).absolute())).render_as_string(hide_password=False)
