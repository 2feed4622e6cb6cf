"""Trials that continue others: what they hold, who makes them, and what samplers are shown."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from scalelab.pruners.continuing import ATTEMPTS, CONTINUES, PLACE, due, latest, values_at_rungs
from scalelab.pruners.idhb import IdhbPruner, IdhbSampler
from tests.pruners.curves import SPACE, Curves, Trainer, study_of
from tests.pruners.deepening import VARIANTS, at, bracket_of, deepened, idhb, sizes, waiting


def storages(folder: Path) -> list[Callable[[], BaseStorage]]:
    memory = InMemoryStorage()
    return [
        lambda: memory,
        lambda: JournalStorage(JournalFileBackend(str(folder / "journal"))),
        lambda: RDBStorage(f"sqlite:///{folder / 'study.db'}"),
    ]


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["memory", "journal", "sqlite"])
def test_a_continuation_is_a_trial_with_what_was_there(kind: int, tmp_path: Path) -> None:
    storage = storages(tmp_path)[kind]
    Trainer(Curves(), 3).run(idhb(storage(), 3), 8)
    study = idhb(storage(), 9)
    expected = waiting(study)
    assert expected and all(trial.state is TrialState.COMPLETE for trial in expected[:1])
    trial = study.ask(SPACE)
    of = study.trials[trial.user_attrs[CONTINUES]]
    assert of.number == expected[0].number and trial.params == of.params
    frozen = study.trials[trial.number]
    assert frozen.intermediate_values == of.intermediate_values and frozen.user_attrs[CONTINUES] == of.number
    assert values_at_rungs(frozen) == values_at_rungs(of)
    assert frozen.system_attrs[PLACE] == {**of.system_attrs[PLACE], "max_resource": 9}
    trial.report(0.5, 9)
    assert trial.should_prune() is False
    study.tell(trial, 0.5)
    assert of.number not in {other.number for other in latest(study.trials)}
    assert of.number not in {other.number for other in waiting(study)}
    assert study.best_trial.number == trial.number


def test_a_continuation_is_continued_in_turn() -> None:
    storage, curves = InMemoryStorage(), Curves()
    for maximum in (3, 9, 27):
        trainer = Trainer(curves, maximum)
        deepened(trainer, idhb(storage, maximum), sum(sizes(maximum)))
    trials = idhb(storage, 27).trials
    chain = next(trial for trial in trials if CONTINUES in trials[trial.user_attrs.get(CONTINUES, 0)].user_attrs)
    assert list(chain.intermediate_values) == [1, 3, 9, 27][-len(chain.intermediate_values) :]
    assert chain.last_step == 27


def test_new_trials_fill_what_the_brackets_lack() -> None:
    storage = InMemoryStorage()
    Trainer(Curves(), 9).run(idhb(storage, 9), 22)
    study = idhb(storage, 27)
    deepened(Trainer(Curves(), 27), study, sum(sizes(27)))
    have = Counter(bracket_of(trial) for trial in latest(study.trials))
    assert [have[bracket] for bracket in range(4)] == sizes(27)


def test_workers_at_the_same_time_continue_a_trial_once() -> None:
    storage = InMemoryStorage()
    Trainer(Curves(), 3).run(idhb(storage, 3), 30)
    start = threading.Barrier(8)

    def work() -> None:
        study = idhb(storage, 9)
        start.wait()
        for _ in range(4):
            study.ask(SPACE)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    continued = Counter(
        trial.user_attrs[CONTINUES] for trial in idhb(storage, 9).trials if CONTINUES in trial.user_attrs
    )
    assert continued and set(continued.values()) == {1}


def test_two_that_claim_a_trial_both_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other writes its claim between our looking at what is due and our own claim."""
    storage = InMemoryStorage()
    Trainer(Curves(), 3).run(idhb(storage, 3), 8)
    study = idhb(storage, 9)
    of = waiting(study)[0].number
    rival = study_of(MedianPruner(), RandomSampler(), storage).ask(SPACE)
    from scalelab.pruners import idhb as module

    def late(*args: Any, **options: Any) -> list[FrozenTrial]:
        found = due(*args, **options)
        storage.set_trial_system_attr(rival._trial_id, "scalelab:claims", of)
        return found

    monkeypatch.setattr(module, "due", late)
    trial = study.ask(SPACE)
    assert CONTINUES not in trial.user_attrs
    assert study.trials[trial.number].system_attrs["scalelab:claims"] is None


def test_a_continuation_that_crashes_is_tried_again_but_not_forever() -> None:
    storage = InMemoryStorage()
    Trainer(Curves(), 3).run(idhb(storage, 3), 8)
    study = idhb(storage, 9)
    of = waiting(study)[0].number
    tried = 0
    for _ in range(12):
        trial = study.ask(SPACE)
        tried += trial.user_attrs.get(CONTINUES) == of
        study.tell(trial, state=TrialState.FAIL)
    assert tried == ATTEMPTS
    assert of in {trial.number for trial in latest(study.trials)}  # what it found still counts


def test_one_that_diverged_does_not_go_on() -> None:
    storage = InMemoryStorage()
    study = idhb(storage, 3)
    for _ in range(3):
        trial = study.ask(SPACE)
        trial.report(1.0, 1)
        assert trial.should_prune() is False
        study.tell(trial, float("inf"))
    assert waiting(idhb(storage, 9)) == []


def test_a_run_without_reports_counts_by_what_it_was_told() -> None:
    storage = InMemoryStorage()
    study = idhb(storage, 3)
    for loss in (2.0, 1.0, 3.0):
        study.tell(study.ask(SPACE), loss)
    best = {bracket_of(trial): trial for trial in sorted(study.trials, key=lambda trial: -trial.values[0])}
    assert {trial.number for trial in waiting(idhb(storage, 9))} == {trial.number for trial in best.values()}


def test_enqueued_trials_stay_what_they_are() -> None:
    storage = InMemoryStorage()
    Trainer(Curves(), 3).run(idhb(storage, 3), 8)
    study = idhb(storage, 9)
    study.enqueue_trial({"x": 0.5, "y": 0.5})
    trial = study.ask(SPACE)
    assert waiting(study) and CONTINUES not in trial.user_attrs and trial.params == {"x": 0.5, "y": 0.5}


def test_efficient_continues_fewer() -> None:
    """Four runs at the lowest rung; the first went on with the worst loss, which no longer ranks."""
    found = {}
    for variant in VARIANTS:
        study = idhb(InMemoryStorage(), 9, variant=variant)
        trials = []
        for loss in (9.0, 3.0, 2.0, 1.0):
            frozen = optuna.create_trial(
                params={"x": 0.5, "y": 0.5}, distributions=SPACE, state=TrialState.PRUNED,
                intermediate_values={1: loss},
                system_attrs={PLACE: at(0, 3), "completed_rung_0": loss},
            )  # fmt: skip
            if loss == 9.0:
                frozen.system_attrs["completed_rung_1"] = 8.0
                frozen.intermediate_values[3] = 8.0
            study.add_trial(frozen)
            trials.append(frozen)
        found[variant] = [trial.number for trial in waiting(study)]
    assert found == {"preserving": [0, 3], "efficient": [0]}  # 0 is the best at rung 1, where it is alone


class Spy(TPESampler):
    """What a sampler is shown."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self.shown = [other for other in study._get_trials(deepcopy=False) if other.number != trial.number]
        self.bracket = bracket_of(trial)
        return super().infer_relative_search_space(study, trial)


def test_suggestions_are_made_from_the_bracket() -> None:
    storage, spy = InMemoryStorage(), Spy(seed=0, n_startup_trials=2)
    for maximum in (9, 27):
        study = study_of(IdhbPruner(max_resource=maximum), IdhbSampler(spy), storage)
        for _ in range(30):
            asked = Trainer(Curves(), maximum).one(study)
            if CONTINUES not in asked.user_attrs:
                own = [t for t in latest(study.trials) if bracket_of(t) == spy.bracket]
                assert {t.number for t in spy.shown} == {t.number for t in own} - {asked.number}
