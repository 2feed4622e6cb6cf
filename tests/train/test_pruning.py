"""A run that somebody may end before its horizon: asked at its rungs, saved where it ends, continued."""

from pathlib import Path

import pytest

from scalelab.spec import RunSpec
from scalelab.train import loop
from scalelab.trials import Outcome, Trial
from tests.conftest import make_spec
from tests.train.running import (
    NARROW,
    Recorder,
    alone,
    assert_same,
    assert_same_state,
    population,
    run_each,
    stepped,
    to_horizon,
)
from tests.train.test_branches import family


class At:
    """Ends a run at one of its rungs."""

    def __init__(self, *rungs: int, ends: int | None = None) -> None:
        self.rungs, self.ends = rungs, ends
        self.asked: list[tuple[int, int, float]] = []
        self.trials: list[Trial] = []

    def stops(self, *, step: int, tokens: int, loss_nats: float) -> str | None:
        self.asked.append((step, tokens, loss_nats))
        return f"enough at {step}" if step == self.ends else None

    def ended(self, trial: Trial) -> None:
        self.trials.append(trial)


def specs_of(count: int = 3) -> list[RunSpec]:
    return [to_horizon(make_spec(**NARROW, seed=seed), 10) for seed in range(count)]


def without_rungs(recorder: Recorder) -> list[dict[str, object]]:
    return [at for at in recorder.curve if "validation_loss_nats" not in at]


def test_a_pruner_is_asked_at_each_rung_with_the_validation_loss() -> None:
    spec, pruner, recorder = specs_of()[0], At(3, 7, 10, 99), Recorder()
    (ran,) = run_each([spec], pruners={0: pruner}, recorders=[recorder])
    assert [step for step, _, _ in pruner.asked] == [3, 7]  # at its horizon a run has ended
    for step, tokens, loss in pruner.asked:
        trained = population([spec])
        stepped(trained, step)
        batches = loop.Batches(loop.corpus_of(spec), spec, "cpu")
        ((mean, _),) = trained.validate([0], batches.validation())
        assert loss == mean and tokens == 64 * step
    told = [(at["step"], at["validation_loss_nats"]) for at in recorder.curve if "validation_loss_nats" in at]
    assert told == [(step, loss) for step, _, loss in pruner.asked]
    assert pruner.trials == [ran.trial] and ran.trial.outcome is Outcome.OK
    assert without_rungs(recorder) == alone(spec).curve  # asking changes nothing
    assert ran.trial.loss_nats == alone(spec).trial.loss_nats


@pytest.mark.parametrize("members", [1, 3])
def test_a_pruned_run_is_saved_and_continued_to_the_same_end(members: int, tmp_path: Path) -> None:
    specs, pruner = specs_of(), At(2, 5, ends=5)
    recorders, paths = [Recorder() for _ in specs], [tmp_path / f"{index}.pt" for index in range(3)]
    first = run_each(specs, pruners={1: pruner}, recorders=recorders, checkpoints=paths, members=members)
    pruned = first[1].trial
    assert pruned.outcome is Outcome.PRUNED and pruned.reason == "enough at 5"
    assert pruned.tokens_seen == 5 * 64 and pruned.loss_nats is None
    assert pruned.cost_flops == round(specs[1].cost_flops * 5 / 10)
    assert pruner.trials == [pruned] and [path.exists() for path in paths] == [False, True, False]
    for index in (0, 2):
        assert_same(alone(specs[index]), first[index])
    again = Recorder()
    (ran,) = run_each([specs[1]], recorders=[again], checkpoints=[paths[1]])
    expected = alone(specs[1])
    assert [at["step"] for at in again.curve] == list(range(5, 10))
    assert without_rungs(recorders[1]) + again.curve == expected.curve
    for name in ("outcome", "loss_nats", "loss_se_nats", "train_loss_nats", "tokens_seen"):
        assert getattr(ran.trial, name) == getattr(expected.trial, name), name
    assert ran.state is not None and expected.state is not None
    assert ran.state["rung"] == 2  # the last that it was let past
    assert_same_state({**ran.state, "rung": 0}, expected.state)


def test_a_stopped_run_is_asked_again_where_it_was_stopped_and_not_before(tmp_path: Path) -> None:
    spec, path = specs_of()[0], tmp_path / "run.pt"
    run_each([spec], pruners={0: At(2, 5, ends=5)}, checkpoints=[path])
    later = At(2, 5, 8)
    run_each([spec], pruners={0: later}, checkpoints=[path])
    assert [step for step, _, _ in later.asked] == [5, 8]


def test_who_has_rungs_on_the_way_does_not_branch_off_a_trunk_that_has_none() -> None:
    """It would be asked too late, or never."""
    specs = family("constant", (6, 12))
    pruner = At(2, ends=2)
    ran = run_each(specs, pruners={0: pruner}, members=2)
    assert ran[0].trial.outcome is Outcome.PRUNED and [step for step, _, _ in pruner.asked] == [2]
    assert_same(alone(specs[1]), ran[1])


def test_a_branch_is_not_told_of_the_rungs_of_its_trunk() -> None:
    specs = family("constant", (6, 12))
    ran = run_each(specs, pruners={1: At(2, 4)}, members=2)
    assert ran[0].trial.trunk_tokens == 6 * 64
    assert ran[0].curve == alone(specs[0]).curve


def test_a_trunk_that_is_pruned_leaves_its_branches_to_themselves() -> None:
    specs = family("constant", (6, 12))
    ran = run_each(specs, pruners={1: At(3, ends=3)}, members=2)
    assert ran[1].trial.outcome is Outcome.PRUNED
    assert_same(alone(specs[0]), ran[0])
