"""The Optuna study behind a search: where it is kept, and whether it is this search's."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from scalelab.claims import Claim, claim
from scalelab.errors import Refused
from scalelab.pruners.continuing import CONTINUES
from scalelab.readers.optuna_trials import IDENTITY, WORK
from scalelab.search.objectives import Told
from scalelab.search.owners import Work
from scalelab.search.problem import Problem
from scalelab.search.rule import Rule, rule_of
from scalelab.search.space import Space
from scalelab.search.storage import readable, storage_of
from scalelab.trials import Outcome

CLAIM = ".search"  # of the process that asks or tells, see `claims`
PATIENCE_SECONDS = 900.0  # with another one that does
POLL_SECONDS = 0.02
HORIZON = "horizon.tokens"  # of what is fixed, where the study was begun
REACHED = "tokens"  # to which they were raised since
OURS = "another study=NAME, with warm_start to begin from what that one found"


@dataclass(frozen=True, kw_only=True)
class Study:
    """An open study: Optuna's, with the storage that it is kept in, and the rule by which its runs are stopped."""

    optuna: optuna.Study
    storage: BaseStorage
    rule: Rule | None

    def ask(self, space: Space) -> FrozenTrial:
        """A new trial with its parameters."""
        number = self.optuna.ask(space.distributions).number
        return self.optuna.get_trials(deepcopy=False)[number]

    def note(self, number: int, work: Work) -> None:
        """Keep with a trial who is at work on it."""
        at = trial_id(self.storage, self.optuna.study_name, number)
        self.storage.set_trial_user_attr(at, WORK, work.plain)

    def tell(self, trial: FrozenTrial, found: Told, objectives: Sequence[str]) -> None:
        """What came of a trial, its attributes first: killed in between, it is told again."""
        at = self._id(trial)
        for name, value in found.attributes.items():
            self.storage.set_trial_user_attr(at, name, value)
        if self.rule is not None and self.rule.asks_runs and "fingerprint" in found.attributes:
            self._report_as_before(at, found.attributes["fingerprint"])
        if found.outcome is Outcome.PRUNED:
            self.optuna.tell(trial.number, state=TrialState.PRUNED)
        elif found.values is None:
            self.optuna.tell(trial.number, state=TrialState.FAIL)
        else:
            if self.rule is not None and self.rule.asks_runs:  # what pruners take for a run that came to its end
                self.storage.set_trial_intermediate_value(at, self.rule.horizon, found.values["loss_nats"])
            self.optuna.tell(trial.number, [found.values[name] for name in objectives])

    def _report_as_before(self, at: int, runs: str) -> None:
        """What a run reported for an earlier trial, where it was there already and so reported nothing for this one."""
        if self.storage.get_trial(at).intermediate_values:
            return
        for other in self.optuna.get_trials(deepcopy=False):
            if other.state.is_finished() and other.user_attrs.get("fingerprint") == runs:
                for step, loss in other.intermediate_values.items():
                    self.storage.set_trial_intermediate_value(at, step, loss)
                return

    def stops(self, trial: FrozenTrial, losses_nats: Sequence[float]) -> bool:
        """Whether a trial with these final losses, of its first tuning seeds in their order, is to end here."""
        at = self._id(trial)
        for place, loss in enumerate(losses_nats):
            self.storage.set_trial_intermediate_value(at, place, loss)
        with warnings.catch_warnings():  # of a best trial that was told from elsewhere, without its losses by seed
            warnings.simplefilter("ignore", UserWarning)
            return self.optuna.pruner.prune(self.optuna, self.storage.get_trial(at))

    def tokens_there(self, trial: FrozenTrial, *, decayed: bool) -> float:
        """The tokens after which a trial goes on with another's run; 0 where it begins one.

        `decayed`: whether the learning rate of a run that came to its end has fallen, so that none goes on with it.
        """
        before = trial.user_attrs.get(CONTINUES)
        if before is None:
            return 0.0
        other = self.optuna.get_trials(deepcopy=False)[before]
        return 0.0 if decayed and other.state is TrialState.COMPLETE else float(other.user_attrs["tokens"])

    def _id(self, trial: FrozenTrial) -> int:
        return trial_id(self.storage, self.optuna.study_name, trial.number)


def trial_id(storage: BaseStorage, study_name: str, number: int) -> int:
    """A storage's own name for a trial."""
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study_name), number)


def existing(problem: Problem) -> optuna.Study | None:
    """The study of a search, if it was begun; nothing is written.

    Raises:
        Refused: on a storage that cannot be reached or read, and on a study that is another search's.
    """
    with readable(problem.settings.storage, problem.folder):
        storage = storage_of(problem.settings.storage, problem.folder, create=False)
        if storage is None or problem.name not in optuna.get_all_study_names(storage):
            return None
        study = optuna.load_study(study_name=problem.name, storage=storage)
        if study.user_attrs or study.get_trials(deepcopy=False):
            _check(problem, study)
        return study


def opened(problem: Problem, sampler: optuna.samplers.BaseSampler) -> Study:
    """The study of a search, begun if it was not; any number of processes open it.

    Raises:
        Refused: as `existing`.
    """
    problem.folder.mkdir(parents=True, exist_ok=True)
    with exclusively(problem.folder), readable(problem.settings.storage, problem.folder):
        storage = storage_of(problem.settings.storage, problem.folder, create=True)
        assert storage is not None
        study = optuna.create_study(
            storage=storage, sampler=sampler, study_name=problem.name,
            directions=["minimize"] * len(problem.settings.objectives), load_if_exists=True,
        )  # fmt: skip
        if study.user_attrs or study.get_trials(deepcopy=False):
            _check(problem, study)
            sampler.reseed_rng()  # or it would draw again what it, or another worker's, drew first
        else:
            study.set_user_attr(IDENTITY, {**problem.identity, "folder": str(problem.folder.resolve())})
        if (rule := rule_in(problem, study)) is not None:
            study.pruner = rule.pruner()
            if rule.deepens and study.user_attrs[IDENTITY].get(REACHED) != rule.horizon:
                study.set_user_attr(IDENTITY, {**study.user_attrs[IDENTITY], REACHED: rule.horizon})
    return Study(optuna=study, storage=storage, rule=rule)


@contextmanager
def exclusively(folder: Path) -> Iterator[Claim]:
    """Be the one process that asks, adopts or tells in the search of a folder, for moments.

    Raises:
        Refused: where another one does not let go.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while (mine := claim(folder / CLAIM)) is None:
        if time.monotonic() > until:
            raise Refused(
                f"{folder / CLAIM} was held by another process for {PATIENCE_SECONDS:g} s: is one of its workers"
                " stopped (Ctrl-Z)? end it, and launch again"
            )
        time.sleep(POLL_SECONDS)
    try:
        yield mine
    finally:
        mine.release()


def rule_in(problem: Problem, study: optuna.Study | None) -> Rule | None:
    """By which rule the runs of a search are stopped; what a rule began with in a study, it keeps.

    Raises:
        Refused: on a pruner's configuration that is not accepted.
    """
    begun = {} if study is None else study.user_attrs.get(IDENTITY, {}).get("fixed", {})
    horizon = problem.spec({}).horizon.tokens
    return rule_of(problem.settings.pruner, horizon, first=begun.get(HORIZON, horizon))


def _check(problem: Problem, study: optuna.Study) -> None:
    """Refuse the study of another problem, saying what differs."""
    kept: Mapping[str, Any] | None = study.user_attrs.get(IDENTITY)
    if kept is None:
        raise Refused(f"study {problem.name!r} is there and was not begun by scalelab: take {OURS}")
    for kind, asked in problem.identity.items():
        before = kept.get(kind, {})  # studies that were begun before there were pruners say nothing of them
        for name in {**before, **asked}:
            was, given = before.get(name, "absent"), asked.get(name, "absent")
            if name == HORIZON and problem.settings.pruner_name == "idhb":
                was = kept.get(REACHED, was)
                if given < was:
                    raise Refused(
                        f"study {problem.name!r} came to tokens={was}, not {given}: accepted are as many or more"
                    )
            elif was != given:
                said = f"study {problem.name!r} has other {kind.replace('_', ' ')}"
                raise Refused(f"{said}: {name} is {was} there and {given} here; take {OURS}")
    here = str(problem.folder.resolve())
    if problem.settings.storage is not None and kept["folder"] != here:
        raise Refused(f"study {problem.name!r} of that storage keeps its runs in {kept['folder']}, not {here}: set out")
