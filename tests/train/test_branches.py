"""Runs that begin alike: trained once, with the bits of runs that are trained alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from scalelab.parametrizations import TABLES
from scalelab.resolve import moves_with_horizon
from scalelab.spec import Horizon, RunSpec
from scalelab.train import loop
from scalelab.train.population import Population
from scalelab.trials import Outcome
from scalelab.trunks import branches, shared_steps
from tests.conftest import make_spec
from tests.train.running import NARROW, Killed, Recorder, alone, assert_same, run_each


def family(schedule: str, horizons: tuple[int, ...], *, warmup: int = 2, **given: Any) -> list[RunSpec]:
    """Runs that differ in their horizon, with a warmup of as many steps in each."""
    spec = make_spec(**{**NARROW, "schedule": schedule, **given})
    return [
        replace(
            spec,
            horizon=Horizon(
                tokens=64 * steps, batch_tokens=64, schedule=schedule, warmup_fraction=0.0, warmup_tokens=64 * warmup
            ),
        )
        for steps in horizons
    ]  # fmt: skip


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members stepped, each time."""
    counts: list[int] = []
    step = Population.step

    def counted(self: Population, tokens_MBT: Tensor) -> Any:
        counts.append(len(self.members))
        return step(self, tokens_MBT)

    monkeypatch.setattr(Population, "step", counted)
    return counts


CONSTANT_AND_WSD = [*family("constant", (5, 8, 14)), *family("wsd", (5, 10, 15))]


@pytest.mark.parametrize("members", [1, 2, 6])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon", "soap"])
def test_a_branch_has_the_bits_of_the_run_alone_and_its_trunk_is_trained_once(
    members: int, optimizer: str, steps: list[int]
) -> None:
    specs = [replace(spec, optimizer=optimizer) for spec in CONSTANT_AND_WSD]
    ran = run_each(specs, members=members)
    together = sum(steps)
    steps.clear()
    for spec, of_it in zip(specs, ran, strict=True):
        assert_same(alone(spec), of_it)
    # A fall begins at the peak: the longest falls after its step 12, the others after 4 and 8, the constant ones never.
    assert sum(steps) == 5 + 8 + 14 + 5 + 10 + 15
    assert together == 15 + (14 - 13) + (10 - 9) + (5 - 5)
    longest = specs[-1].fingerprint
    assert [of_it.trial.provenance.get("trunk") for of_it in ran] == [longest] * 5 + [None]
    assert [of_it.trial.trunk_tokens // 64 for of_it in ran] == [5, 8, 13, 5, 9, 0]
    assert all(of_it.trial.cost_flops == spec.cost_flops for spec, of_it in zip(specs, ran, strict=True))


def test_adamw_that_hands_over_to_muon_branches_before_it_does(steps: list[int]) -> None:
    specs = family("wsd", (5, 10, 15), optimizer="adamw_muon")
    ran = run_each(specs, members=3)
    assert sum(steps) == 15 + (10 - 8) + (5 - 4)
    for spec, of_it in zip(specs, ran, strict=True):
        assert_same(alone(spec), of_it)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_schedules_that_always_move_share_their_warmup_alone(schedule: str, steps: list[int]) -> None:
    """Until the peak they are the same; without a warmup there is nothing that they share but the first step."""
    specs = family(schedule, (6, 12), warmup=0)
    assert shared_steps(specs[1], specs[0]) == 1  # at step 0 both factors are 1
    specs = [replace(spec, horizon=replace(spec.horizon, warmup_tokens=None, warmup_fraction=0.5)) for spec in specs]
    assert branches(dict(enumerate(specs))) == {}  # 3 steps of warmup, and 6
    run_each(specs, members=2)
    assert sum(steps) == 18


def test_runs_that_differ_in_anything_else_share_nothing() -> None:
    short, long = family("constant", (5, 10))
    others = [
        replace(long, seed=1), replace(long, hparams=replace(long.hparams, lr=0.02)), replace(long, optimizer="sgd"),
        replace(long, base_tokens=64), replace(long, horizon=replace(long.horizon, warmup_tokens=64)),
    ]  # fmt: skip
    for other in others:
        assert branches({0: short, 1: other}) == {}
    assert branches({0: short, 1: long}).keys() == {0}


def test_a_table_that_moves_with_the_horizon_shares_nothing(steps: list[int]) -> None:
    name = next(name for name, table in TABLES.items() if not table.unit_scaled and moves_with_horizon(make_spec(name)))
    specs = family("constant", (5, 10), parametrization=name, base_tokens=320)
    assert branches(dict(enumerate(specs))) == {}
    ran = run_each(specs, members=2)
    assert sum(steps) == 15
    for spec, of_it in zip(specs, ran, strict=True):
        assert_same(alone(spec), of_it)


def test_a_trunk_that_diverges_ends_its_branches_as_they_would_have_ended(steps: list[int]) -> None:
    hot = {"optimizer": "sgd", "hparams": {"lr": 1e30, "clip_norm": None}, "warmup": 0}
    specs = family("constant", (6, 9, 12), **hot)
    ran = run_each(specs, members=3)
    diverged_at = ran[2].trial.tokens_seen // 64
    assert diverged_at < 6 and sum(steps) == diverged_at + 1
    for spec, of_it in zip(specs, ran, strict=True):
        expected = alone(spec)
        assert of_it.trial.outcome is Outcome.DIVERGED
        for name in ("reason", "loss_nats", "train_loss_nats", "tokens_seen", "cost_flops"):
            assert getattr(of_it.trial, name) == getattr(expected.trial, name), name
        assert repr(of_it.curve) == repr(expected.curve)
    assert [of_it.trial.provenance.get("trunk") for of_it in ran] == [specs[2].fingerprint] * 2 + [None]


def test_a_trunk_that_is_worse_than_at_its_start_does_not_end_branches_that_are_not() -> None:
    specs = family("constant", (3, 40), warmup=0, hparams={"lr": 2.0})
    ran = run_each(specs, members=2)
    for spec, of_it in zip(specs, ran, strict=True):
        assert_same(alone(spec), of_it)


def test_a_branch_goes_on_alone_from_its_own_checkpoint(tmp_path: Path, steps: list[int]) -> None:
    specs = family("wsd", (10, 15))
    paths = [tmp_path / "short.pt", tmp_path / "long.pt"]
    recorders = [Recorder(), Recorder(kill=10)]
    with pytest.raises(Killed):  # after the branch that begins at step 9 has been saved
        run_each(specs, checkpoints=paths, recorders=recorders, members=1)
    assert paths[0].exists() and not paths[1].exists()
    steps.clear()
    (ran,) = run_each(specs[:1], checkpoints=paths[:1], members=1)
    assert sum(steps) == 1
    expected = alone(specs[0])
    assert ran.trial.loss_nats == expected.trial.loss_nats and ran.curve == expected.curve[9:]
    assert ran.trial.provenance["trunk"] == specs[1].fingerprint


def test_a_trunk_that_has_gone_past_the_fork_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[int]
) -> None:
    short, long = family("wsd", (5, 15))
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    with pytest.raises(Killed):
        run_each([long], checkpoints=[tmp_path / "long.pt"], recorders=[Recorder(kill=9)])
    steps.clear()
    ran = run_each([short, long], checkpoints=[tmp_path / "short.pt", tmp_path / "long.pt"], members=2)
    assert sum(steps) == 5 + (15 - 9)
    assert_same(alone(short), ran[0])
    assert ran[1].trial.loss_nats == alone(long).trial.loss_nats


def test_a_long_curve_of_a_branch_is_that_of_the_run_alone() -> None:
    """Records are a hundredth of a run apart: of a longer trunk there would be fewer."""
    specs = family("constant", (110, 220), warmup=0)
    ran = run_each(specs, members=2)
    for spec, of_it in zip(specs, ran, strict=True):
        assert [at["step"] for at in of_it.curve] == [at["step"] for at in alone(spec).curve]
