"""Searches whose runs are stopped early, with runs that train."""

from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from scalelab.pruners.continuing import CONTINUES
from scalelab.search.pruning import ANSWERS
from scalelab.train import CHECKPOINT_FILE
from scalelab.trials import Outcome, RunFolder
from tests.helpers import TINY, metrics, scalelab, squeezed, tree
from tests.search.searching import LR, Training, kept, trials

HYPERBAND = "hydra/sweeper/pruner=hyperband"
IDHB = ("hydra/sweeper/pruner=idhb", "schedule=constant", "warmup_fraction=0")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def found() -> Training:
    return Training()


def run_of(trial: FrozenTrial) -> RunFolder:
    return RunFolder(Path("runs/s") / trial.user_attrs["fingerprint"])


def pruned() -> list[FrozenTrial]:
    return [trial for trial in trials() if trial.state is TrialState.PRUNED]


def test_hyperband_stops_runs_and_keeps_their_checkpoints(found: Training, folder: Path) -> None:
    text = found(LR, HYPERBAND, n_trials=8)
    assert 2 <= len(pruned()) <= 6 and len(trials()) == len(found.specs) == 8
    for trial in trials():
        run = run_of(trial)
        there = run.read()
        stopped = trial.state is TrialState.PRUNED
        assert there.outcome is (Outcome.PRUNED if stopped else Outcome.OK)
        assert (run.path / CHECKPOINT_FILE).exists() == stopped
        assert trial.user_attrs["tokens"] == there.tokens_seen
        assert trial.user_attrs["cost_flops"] == there.cost_flops
        # What was reported at the rungs of 24, 72 and 216 tokens is what the run measured after 1, 2 and 4 steps of 64.
        measured = [line["validation_loss_nats"] for line in metrics(run.path) if "validation_loss_nats" in line]
        reported = [loss for rung, loss in sorted(trial.intermediate_values.items()) if rung < 640]
        assert measured == reported and set(trial.intermediate_values) <= {24, 72, 216, 640}
        assert trial.intermediate_values.get(640) == there.loss_nats
    spent = sum(run_of(trial).read().cost_flops for trial in trials())
    whole = 8 * found.specs[0].cost_flops
    assert kept()["spent_flops"] == spent and kept()["saved_flops"] == whole - spent
    assert f"{len(pruned())} PRUNED" in text and f"saved by stopping {len(pruned())}" in text
    before = tree(folder)
    assert "nothing is left to run" in found(LR, HYPERBAND, n_trials=8)
    assert tree(folder) == before


def test_killed_at_a_rung_it_decides_as_if_it_had_not_been(
    found: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (LR, HYPERBAND)
    found(*given, n_trials=6, sampler="qmc")  # goes on with its sequence when it is launched again
    unbroken = [(t.state, t.params, t.intermediate_values, t.system_attrs.get(ANSWERS)) for t in trials()]
    first_stop = next(place for place, (number, _) in enumerate(found.asked, start=1) if number == pruned()[0].number)
    for killed_after in (2, first_stop):
        there = tmp_path / str(killed_after)
        there.mkdir()
        monkeypatch.chdir(there)
        again = Training()
        again.killed_after = killed_after
        with pytest.raises(KeyboardInterrupt):
            again(*given, n_trials=6, sampler="qmc")
        again(*given, n_trials=6, sampler="qmc")
        assert [(t.state, t.params, t.intermediate_values, t.system_attrs.get(ANSWERS)) for t in trials()] == unbroken


class Falling(RandomSampler):
    """Proposes learning rates that get worse, so that the second is stopped though it is better than most to come."""

    def sample_independent(self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: Any) -> float:
        return 0.02 * 0.75**trial.number


def test_a_raised_horizon_goes_on_from_the_checkpoints(found: Training) -> None:
    given = (LR, *IDHB, "hydra.sweeper.pruner.min_resource=128", f"hydra.sweeper.sampler._target_={__name__}.Falling")
    found(*given, n_trials=8)
    old = trials()
    assert all((run_of(trial).path / CHECKPOINT_FILE).exists() for trial in old)  # of those that ended, too
    found.specs.clear()
    found.steps.clear()
    found.asked.clear()
    text = found(*given, "tokens=1920", n_trials=8)
    new = trials()[8:]
    assert {old[trial.user_attrs[CONTINUES]].state for trial in new} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert "told ones go on to 1920 tokens" in text and all(
        f"goes on with trial {t.user_attrs[CONTINUES]}" in text for t in new
    )
    for trial, steps in zip(new, found.steps, strict=True):
        before = old[trial.user_attrs[CONTINUES]]
        there, began = run_of(trial).read(), run_of(before).read()
        assert trial.params == before.params and there.spec.horizon.tokens == 1920
        assert steps == (there.tokens_seen - began.tokens_seen) // 64  # none of the old ones again
        assert there.trunk_tokens == began.tokens_seen and there.provenance["trunk"] == began.spec.fingerprint
        assert all(step > began.tokens_seen // 64 for number, step in found.asked if number == trial.number)
        assert trial.user_attrs["spent_flops"] == pytest.approx(there.cost_flops - began.cost_flops)
    assert kept()["winner"]["trial"] in {trial.number for trial in new}  # only what came to the horizon
    assert kept()["spent_flops"] == pytest.approx(
        sum(run_of(t).read().cost_flops for t in old) + sum(t.user_attrs["spent_flops"] for t in new)
    )
    assert "nothing is left to run" in found(*given, "tokens=1920", n_trials=8)
    assert len(trials()) == 8 + len(new)


def test_what_was_continued_is_what_would_have_been_trained_at_once(found: Training, tmp_path: Path) -> None:
    """A run of a raised horizon has the bits of one to that horizon from the start."""
    found(LR, *IDHB, n_trials=3)
    found(LR, *IDHB, "tokens=1920", n_trials=3)
    there = run_of(next(trial for trial in trials()[3:] if trial.state is TrialState.COMPLETE)).read()
    from scalelab.jobs import run_job

    alone = run_job(there.spec, RunFolder(tmp_path / "alone"))
    assert alone is not None and alone.loss_nats == there.loss_nats and there.trunk_tokens > 0


def test_a_raise_that_is_killed_goes_on_where_it_was(
    found: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raised(search: Training, killed_after: float) -> list[tuple[object, ...]]:
        search(LR, *IDHB, n_trials=8, sampler="qmc")
        search.killed_after = search.reports + killed_after
        if search.killed_after < float("inf"):
            with pytest.raises(KeyboardInterrupt):
                search(LR, *IDHB, "tokens=1920", n_trials=10, sampler="qmc")
        search(LR, *IDHB, "tokens=1920", n_trials=10, sampler="qmc")
        return [(t.state, t.params, t.intermediate_values, t.user_attrs.get(CONTINUES)) for t in trials()]

    unbroken = raised(found, float("inf"))
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    assert raised(Training(), 2) == unbroken


@pytest.mark.parametrize("launcher", ["basic", "fused"])
def test_from_the_command_line_it_stops_runs_and_goes_on_with_them(launcher: str) -> None:
    given = ("train", "-m", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random", *TINY, "study=s", LR, *IDHB,
             f"hydra/launcher={launcher}", "hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=4")  # fmt: skip
    result = scalelab(*given)
    assert result.exit_code == 0, result.output
    assert pruned() and f"{len(pruned())} PRUNED" in squeezed(result.stdout)
    for trial in trials():
        assert (run_of(trial).path / CHECKPOINT_FILE).exists()
        assert trial.user_attrs["tokens"] == run_of(trial).read().tokens_seen
    assert "nothing is left to run" in scalelab(*given).stdout
    raised = scalelab(*given, "tokens=1920")
    assert raised.exit_code == 0, raised.output
    new = trials()[8:]
    assert new and all(run_of(trial).read().trunk_tokens > 0 for trial in new)
