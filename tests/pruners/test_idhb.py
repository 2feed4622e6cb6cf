"""Iterative Deepening Hyperband against Optuna's Hyperband: the same until it is raised, cheaper after."""

from typing import Any

import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from scalelab.errors import Refused
from scalelab.pruners.continuing import PLACE, values_at_rungs
from scalelab.pruners.idhb import IdhbPruner, IdhbSampler, Variant
from tests.pruners.curves import SPACE, Curves, Trainer, study_of
from tests.pruners.deepening import VARIANTS, at, bracket_of, deepened, idhb, pruner_of, sizes


@pytest.mark.parametrize("maximum", [9, 20, 27, 100])
@pytest.mark.parametrize("seed", [0, 1])
def test_never_raised_it_is_optunas_hyperband(maximum: int, seed: int) -> None:
    ours, theirs = Trainer(Curves(seed=seed), maximum), Trainer(Curves(seed=seed), maximum)
    study = idhb(InMemoryStorage(), maximum, seed)
    other = study_of(HyperbandPruner(1, maximum, 3), RandomSampler(seed=seed))
    ours.run(study, 120)
    theirs.run(other, 120, asks_at_end=False)  # which could still prune a run that is over
    below = {number: [at for at in asked if at[0] < maximum] for number, asked in ours.decisions.items()}
    assert {number: asked for number, asked in below.items() if asked} == theirs.decisions
    assert [trial.params for trial in study.trials] == [trial.params for trial in other.trials]
    assert [trial.state for trial in study.trials] == [trial.state for trial in other.trials]
    assert any(pruned for asked in below.values() for _, pruned in asked)


def test_never_raised_a_nan_is_pruned_where_optuna_prunes_it() -> None:
    studies = [idhb(InMemoryStorage(), 9), study_of(HyperbandPruner(1, 9, 3), RandomSampler(seed=0))]
    found = []
    for study in studies:
        for _ in range(20):
            trial = study.ask(SPACE)
            for step, loss in [(1, 1.0), (2, float("nan")), (3, float("nan")), (4, float("inf"))]:
                trial.report(loss, step)
                found.append((study is studies[0], trial.number, step, trial.should_prune()))
            study.tell(trial, state=TrialState.PRUNED)
    assert [rest for ours, *rest in found if ours] == [rest for ours, *rest in found if not ours]
    assert any(pruned for *_, pruned in found)


def test_brackets_are_counted_exactly() -> None:
    assert len(sizes(243)) == 5  # log(243, 3) is 4.999…
    assert [IdhbPruner(max_resource=243).rungs(bracket)[0] for bracket in range(6)] == [1, 3, 9, 27, 81, 243]
    assert IdhbPruner(min_resource=10, max_resource=100).rungs(0) == [10, 30, 90]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_raise_costs_less_than_to_begin_anew_and_finds_as_much(variant: Variant) -> None:
    small, large = 9, 27
    spent, anew, excess = [], [], []
    for seed in range(6):
        curves = Curves(seed=seed)
        storage = InMemoryStorage()
        first, second, other = Trainer(curves, small), Trainer(curves, large), Trainer(curves, large)
        first.run(idhb(storage, small, seed, variant), sum(sizes(small)))
        study = idhb(storage, large, seed + 100, variant)
        deepened(second, study, sum(sizes(large)))
        scratch = study_of(HyperbandPruner(1, large, 3), RandomSampler(seed=seed + 100))
        other.run(scratch, sum(sizes(large)), asks_at_end=False)
        assert second.spent < other.spent
        spent.append(first.spent + second.spent)
        anew.append(other.spent)
        excess.append(study.best_value - scratch.best_value)
        assert excess[-1] < 0.03  # the optimum's neighbourhood: configurations' own floors differ by 0.02
    assert sum(spent) < sum(anew)  # the first search included
    assert sum(excess) < 0.01 * len(excess)


def test_all_that_ended_under_the_old_maximum_counts_under_the_new() -> None:
    storage, curves = InMemoryStorage(), Curves(seed=3)
    Trainer(curves, 9).run(idhb(storage, 9), 40, asks_at_end=False)
    study = idhb(storage, 27)
    old = study.trials
    assert {len(values_at_rungs(trial)) for trial in old} == {1, 2, 3}  # every one has reached a rung, and kept it
    assert all(max(values_at_rungs(trial)) == 2 - bracket_of(trial) for trial in old if trial.last_step == 9)
    assert all(pruner_of(study)._get_bracket_id(study, trial) == bracket_of(trial) for trial in old)
    plain = HyperbandPruner(1, 27, 3)
    plain._try_initialization(study)
    assert any(plain._get_bracket_id(study, trial) != bracket_of(trial) for trial in old)  # a hash would not

    # A new run is judged against them: the old ones alone say what passes.
    pruner = pruner_of(study)
    for bracket in range(3):
        rung = pruner.rungs(bracket)[0]
        there = sorted(values_at_rungs(other)[0] for other in old if bracket_of(other) == bracket)
        last = there[max(1, (len(there) + 1) // 3) - 1]  # to pass, as one of len(there) + 1
        for loss, pruned in [(last - 1e-6, False), (last + 1e-6, True)]:
            copied = InMemoryStorage()  # a decision is taken once a rung
            optuna.copy_study(from_study_name="s", from_storage=storage, to_storage=copied)
            again = idhb(copied, 27)
            again.add_trial(
                optuna.create_trial(
                    state=TrialState.RUNNING, intermediate_values={rung: loss}, system_attrs={PLACE: at(bracket, 27)}
                )
            )
            assert pruner.prune(again, again.trials[-1]) is pruned


def test_without_the_sampler_it_is_hyperband_of_stable_brackets() -> None:
    storage = InMemoryStorage()
    for maximum in (9, 27):
        study = study_of(IdhbPruner(max_resource=maximum), RandomSampler(seed=maximum), storage)
        brackets = [bracket_of(trial) for trial in study.trials]
        Trainer(Curves(), maximum).run(study, 20)
        assert [bracket_of(trial) for trial in study.trials][: len(brackets)] == brackets


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_resource": 9, "min_resource": 10}, "1 ≤ min ≤ max"),
        ({"max_resource": 9, "min_resource": 0}, "1 ≤ min ≤ max"),
        ({"max_resource": 9, "reduction_factor": 1}, "at least 2"),
        ({"max_resource": 9, "variant": "preserve"}, "did you mean 'preserving'"),
    ],
)
def test_arguments_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        IdhbPruner(**given)


@pytest.mark.parametrize("given", [{"max_resource": 3}, {"max_resource": 27, "min_resource": 3},
                                   {"max_resource": 64, "reduction_factor": 4}])  # fmt: skip
def test_a_study_of_other_rungs_or_a_larger_maximum_is_refused(given: dict[str, int]) -> None:
    storage = InMemoryStorage()
    Trainer(Curves(), 9).run(idhb(storage, 9), 3)
    study = study_of(IdhbPruner(**given), IdhbSampler(RandomSampler()), storage)
    with pytest.raises(Refused, match="a maximum at least as large"):
        study.ask(SPACE)


def test_the_sampler_refuses_other_pruners_and_two_objectives() -> None:
    with pytest.raises(Refused, match="not with MedianPruner"):
        study_of(MedianPruner(), IdhbSampler(RandomSampler())).ask(SPACE)
    two = optuna.create_study(
        directions=["minimize"] * 2, pruner=IdhbPruner(max_resource=9), sampler=IdhbSampler(RandomSampler())
    )
    with pytest.raises(Refused, match="takes one"):
        two.ask(SPACE)
