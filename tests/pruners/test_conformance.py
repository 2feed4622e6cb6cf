"""What holds of every pruner in PRUNERS."""

import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from scalelab.errors import Refused
from scalelab.pruners import PRUNERS, pruner_class
from scalelab.pruners.idhb import IdhbPruner, IdhbSampler
from tests.pruners.curves import SPACE, Curves, Trainer, study_of

HORIZON = 27
GIVEN: dict[str, dict[str, Any]] = {"idhb": {"max_resource": HORIZON}}  # has no usual value
EAGER: dict[str, dict[str, Any]] = {"curve": {"risk": 0.2, "rungs": [0.3]}, "idhb": {"max_resource": HORIZON}}
SEEDS = ("wilcoxon",)  # read a step as the index of a seed

pytestmark = pytest.mark.filterwarnings("ignore:WilcoxonPruner is experimental")
every = pytest.mark.parametrize("name", sorted(PRUNERS))
both = pytest.mark.parametrize("kind", ["memory", "journal"])


def opened(name: str, storage: BaseStorage, given: dict[str, dict[str, Any]] = GIVEN) -> optuna.Study:
    pruner: BasePruner = pruner_class(name)(**given.get(name, {}))
    sampler: BaseSampler = RandomSampler(seed=0)
    return study_of(pruner, IdhbSampler(sampler) if isinstance(pruner, IdhbPruner) else sampler, storage)


def storage_of(kind: str, folder: Path) -> BaseStorage:
    return InMemoryStorage() if kind == "memory" else JournalStorage(JournalFileBackend(str(folder / "journal")))


def filled(name: str, storage: BaseStorage) -> optuna.Study:
    study = opened(name, InMemoryStorage(), EAGER)
    if name in SEEDS:
        _seeds(study, 12)
    else:
        Trainer(Curves(), HORIZON).run(study, 40, asks_at_end=False)
    optuna.copy_study(from_study_name="s", from_storage=study._storage, to_storage=storage)
    return opened(name, storage, EAGER)


def _seeds(study: optuna.Study, trials: int, first: int = 0) -> None:
    """Each trial is run with ten seeds, and told the mean of those that it has had."""
    for number in range(first, first + trials):
        trial, losses = study.ask(SPACE), []
        for seed in range(10):
            losses.append(Curves(seed=number, noise=0.05)(trial.params, 27 + seed))
            trial.report(losses[-1], seed)
            if trial.should_prune():
                break
        study.tell(trial, sum(losses) / len(losses))
        trial_is_short = len(losses) < 10
        study.set_user_attr("stopped", study.user_attrs.get("stopped", 0) + trial_is_short)


@every
def test_it_is_an_optuna_pruner_with_its_usual_arguments(name: str) -> None:
    pruner = pruner_class(name)(**GIVEN.get(name, {}))
    assert isinstance(pruner, BasePruner) and type(pruner).__doc__


@every
@both
def test_a_trial_without_reports_is_never_pruned(name: str, kind: str, tmp_path: Path) -> None:
    study = filled(name, storage_of(kind, tmp_path))
    for _ in range(5):
        assert study.ask(SPACE).should_prune() is False


@every
@both
def test_it_prunes_the_worst_and_not_the_best(name: str, kind: str, tmp_path: Path) -> None:
    study = filled(name, storage_of(kind, tmp_path))
    stopped = study.user_attrs.get("stopped", 0) + sum(trial.state is TrialState.PRUNED for trial in study.trials)
    assert 0 < stopped < len(study.trials)
    for loss, expected in [(0.1, False), (99.0, True)]:
        trial = study.ask(SPACE)
        pruned = False
        for step in range(10) if name in SEEDS else (1, 3, 9, 26):
            trial.report(loss + 0.01 * step, step)
            pruned = pruned or trial.should_prune()
        assert bool(pruned) is expected  # MedianPruner says np.True_
        study.tell(trial, state=TrialState.FAIL)


@every
@both
@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_breaks_nothing(name: str, kind: str, loss: float, tmp_path: Path) -> None:
    study = filled(name, storage_of(kind, tmp_path))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*contain infinity/NaNs")  # WilcoxonPruner's
        warnings.filterwarnings("ignore", message="WilcoxonPruner finds steps")
        warnings.filterwarnings("ignore", message="All-NaN slice")  # MedianPruner's
        for step in (1, 3, 9, 27):
            trial = study.ask(SPACE)
            trial.report(loss, step)
            assert trial.should_prune() in (True, False)
            study.tell(trial, state=TrialState.PRUNED)
        later = study.ask(SPACE)
        later.report(2.0, 1)
        assert later.should_prune() in (True, False)


@every
def test_decisions_are_the_studys_own(name: str, tmp_path: Path) -> None:
    """The same reports, in another storage, by a pruner that was made afresh before each trial."""
    one = filled(name, InMemoryStorage())
    storage, sampler, trainer = storage_of("journal", tmp_path), RandomSampler(seed=0), Trainer(Curves(), HORIZON)
    for number in range(len(one.trials)):
        two = opened(name, storage, EAGER)
        two.sampler = IdhbSampler(sampler) if isinstance(two.pruner, IdhbPruner) else sampler
        if name in SEEDS:
            _seeds(two, 1, first=number)
        else:
            trainer.run(two, 1, asks_at_end=False)
    assert [trial.params for trial in one.trials] == [trial.params for trial in two.trials]
    assert [trial.state for trial in one.trials] == [trial.state for trial in two.trials]
    assert [trial.last_step for trial in one.trials] == [trial.last_step for trial in two.trials]


def test_an_unknown_pruner_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Refused, match="did you mean 'hyperband'"):
        pruner_class("hyperbrand")
