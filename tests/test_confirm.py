"""The proof of a recipe: its arithmetic against numbers worked out by hand, and when there is no number to give."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from scalelab.confirm import Confirmation, confirm
from scalelab.errors import Refused
from scalelab.laws import study
from scalelab.readers import read
from scalelab.recipe import Recipe, write_recipe
from scalelab.recommend import recommend
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, RunFolder, Trial
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, squeezed, sweep, tree, valley, write_trial

# Loss by factor on the recipe's lr and by seed. Means: 2.53, 2.42, 2.41, 2.63; the recipe's (factor 1) minus the best
# (factor 2), seed by seed: 0.02, 0.03, -0.02.
LOSSES = {
    0.5: (2.50, 2.53, 2.56),
    1.0: (2.40, 2.43, 2.43),
    2.0: (2.38, 2.40, 2.45),
    4.0: (2.60, 2.63, 2.66),
}
REGRET = 0.01
SE = math.sqrt((0.01**2 + 0.02**2 + 0.03**2) / 2) / math.sqrt(3)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("proxies")
    sweep(folder, valley())
    found = read([folder])
    return recommend(study(found.table, template=found.template, draws=300), {"width": 256})


def at(recipe: Recipe, factor: float, seed: int, width: int = 256) -> RunSpec:
    spec = make_spec(width=width, seed=seed)
    return replace(spec, hparams=replace(spec.hparams, lr=recipe.lr.value * factor))


def write_target(folder: Path, recipe: Recipe, losses: dict[float, tuple[float | None, ...]]) -> Path:
    for factor, of_seeds in losses.items():
        for seed, loss in enumerate(of_seeds):
            write_trial(folder, at(recipe, factor, seed), loss)
    return folder


def confirmed(folder: Path, recipe: Recipe, losses: dict[float, tuple[float | None, ...]]) -> Confirmation:
    return confirm(recipe, read([write_target(folder, recipe, losses)]))


def test_the_regret_is_the_paired_difference_to_the_best_tried(recipe: Recipe, tmp_path: Path) -> None:
    found = confirmed(tmp_path, recipe, dict(LOSSES))
    assert found.recipe_lr == pytest.approx(recipe.lr.value)
    assert found.rival_lr == pytest.approx(2 * recipe.lr.value)
    assert found.regret_nats == found.gap_nats == pytest.approx(REGRET)
    assert found.se_nats == pytest.approx(SE)
    assert found.regret_percent == pytest.approx(100 * REGRET / 2.41)
    assert [result.loss_nats for result in found.results] == pytest.approx([2.53, 2.42, 2.41, 2.63])
    assert [result.seeds for result in found.results] == [3, 3, 3, 3]
    variances = [0.03**2, 0.0003, 0.0013, 0.03**2]  # of each lr over its seeds
    assert [result.sd_nats for result in found.results] == pytest.approx([math.sqrt(v) for v in variances])
    assert found.seed_sd_nats == pytest.approx(math.sqrt(sum(variances) / 4))
    assert found.tuning_flops is None and found.compute_share is None


def test_the_best_tried_has_no_regret_and_says_how_far_the_next_one_is(recipe: Recipe, tmp_path: Path) -> None:
    found = confirmed(tmp_path, recipe, {0.5: (2.5, 2.5), 1.0: (2.4, 2.41), 2.0: (2.45, 2.48)})
    assert (found.rival_lr, found.regret_nats) == (pytest.approx(2 * recipe.lr.value), 0.0)
    assert found.gap_nats == pytest.approx(-0.06)
    assert found.se_nats == pytest.approx(0.01)  # differences -0.05 and -0.07


def test_a_run_that_is_not_there_yet_is_no_divergence(recipe: Recipe, tmp_path: Path) -> None:
    write_target(tmp_path, recipe, {0.5: (2.5, 2.5), 1.0: (2.4,), 2.0: (2.39, 2.0)})
    found = confirm(recipe, read([tmp_path]))
    assert found.gap_nats == pytest.approx(0.01)  # seed 0 alone, which both have
    assert found.se_nats is None


def test_with_one_seed_there_is_no_standard_error(recipe: Recipe, tmp_path: Path) -> None:
    found = confirmed(tmp_path, recipe, {0.5: (2.5,), 1.0: (2.4,), 2.0: (2.3,)})
    assert found.regret_nats == pytest.approx(0.1)
    assert found.se_nats is None and found.seed_sd_nats is None


def test_the_targets_own_valley_is_fitted(recipe: Recipe, tmp_path: Path) -> None:
    losses: dict[float, tuple[float | None, ...]] = {
        2.0**u: tuple(2.4 + 0.06 * (u - 0.5) ** 2 + offset for offset in (0.0, 0.003)) for u in range(-3, 4)
    }
    found = confirmed(tmp_path, recipe, losses)
    assert found.valley_lr is not None and found.valley_lr_low is not None and found.valley_lr_high is not None
    assert found.valley_lr == pytest.approx(recipe.lr.value * 2**0.5, rel=0.02)
    assert found.valley_lr_low <= found.valley_lr <= found.valley_lr_high
    assert found.valley_regret_nats == pytest.approx(0.06 * 0.25, rel=0.05)  # half an octave off


def test_a_neighbour_that_diverged_in_one_seed_is_not_the_best(recipe: Recipe, tmp_path: Path) -> None:
    found = confirmed(tmp_path, recipe, {0.5: (2.5, 2.5), 1.0: (2.4, 2.41), 2.0: (2.0, None)})
    assert found.rival_lr == pytest.approx(0.5 * found.recipe_lr) and found.regret_nats == 0.0
    (neighbour,) = (result for result in found.results if result.lr > 1.5 * found.recipe_lr)
    assert (neighbour.seeds, neighbour.diverged, neighbour.loss_nats) == (2, 1, 2.0)


def test_runs_of_another_batch_or_weight_decay_are_left_out(recipe: Recipe, tmp_path: Path) -> None:
    write_target(tmp_path, recipe, dict(LOSSES))
    spec = at(recipe, 2.0, 0)
    write_trial(tmp_path, replace(spec, hparams=replace(spec.hparams, weight_decay=0.0)), 1.0)
    write_trial(tmp_path, replace(spec, horizon=replace(spec.horizon, batch_tokens=128)), 1.0)
    assert confirm(recipe, read([tmp_path])).regret_nats == pytest.approx(REGRET)


def test_a_file_can_confirm_too_if_it_has_the_columns(recipe: Recipe, tmp_path: Path) -> None:
    table = read([write_target(tmp_path / "runs", recipe, dict(LOSSES))]).table
    table.to_csv(tmp_path / "runs.csv", index=False)
    table.drop(columns=["seed", "outcome"]).to_csv(tmp_path / "fewer.csv", index=False)
    assert confirm(recipe, read([tmp_path / "runs.csv"])).regret_nats == pytest.approx(REGRET)
    with pytest.raises(Refused, match=r"fewer.csv: no column seed, outcome"):
        confirm(recipe, read([tmp_path / "fewer.csv"]))
    table.drop(columns=["cost_flops"]).to_csv(tmp_path / "free.csv", index=False)
    with pytest.raises(Refused, match="no column cost_flops"):
        confirm(recipe, read([tmp_path / "runs"]), proxies=read([tmp_path / "free.csv"]))


def test_failed_and_foreign_runs_are_left_out(recipe: Recipe, tmp_path: Path) -> None:
    write_target(tmp_path, recipe, dict(LOSSES))
    write_trial(tmp_path, at(recipe, 2.0, 0, width=128), 1.0)
    RunFolder(tmp_path / "failed").write(
        Trial(spec=at(recipe, 8.0, 0), outcome=Outcome.FAILED, loss_nats=None, reason="disk")
    )
    assert confirm(recipe, read([tmp_path])).regret_nats == pytest.approx(REGRET)
    assert len(confirm(recipe, read([tmp_path])).results) == 4


def test_compute_is_a_share_of_the_same_sweep_at_the_target(recipe: Recipe, tmp_path: Path) -> None:
    write_target(tmp_path / "target", recipe, dict(LOSSES))
    for lr in (0.01, 0.02, 0.04):
        for seed in (0, 1):
            for width in (32, 64):
                spec = make_spec(width=width, seed=seed, hparams={"lr": lr})
                write_trial(tmp_path / "proxies", spec, 3.0, cost_flops=1000 * width)
    write_trial(tmp_path / "proxies", make_spec("sp", width=32), 3.0, cost_flops=10**12)  # another table's
    found = confirm(recipe, read([tmp_path / "target"]), proxies=read([tmp_path / "proxies"]))
    assert found.tuning_flops == 6 * (32_000 + 64_000)
    assert found.replaced_flops == 3 * 2 * recipe.cost_flops
    assert found.compute_share == pytest.approx(576_000 / (6 * recipe.cost_flops))
    assert found.target_runs == pytest.approx(576_000 / recipe.cost_flops)


def test_where_there_is_no_regret_to_measure_it_says_so(recipe: Recipe, tmp_path: Path) -> None:
    for name, losses, said in (
        ("diverged", {0.5: (2.5, 2.5), 1.0: (2.4, None), 2.0: (2.6, 2.6)}, "diverged at the target"),
        ("no recipe", {0.5: (2.5,), 2.0: (2.6,)}, "no run at the recipe's lr .* run lr_factor=1 too"),
        ("alone", {1.0: (2.5, 2.6)}, "only the recipe's own lr was run"),
    ):
        write_target(tmp_path / name, recipe, losses)  # type: ignore[arg-type]
        with pytest.raises(Refused, match=said):
            confirm(recipe, read([tmp_path / name]))
    sweep(tmp_path / "elsewhere", valley(), widths=(64,))
    with pytest.raises(Refused, match="no run at the recipe's target"):
        confirm(recipe, read([tmp_path / "elsewhere"]))
    write_trial(tmp_path / "sp", make_spec("sp"), 3.0)
    write_target(tmp_path / "good", recipe, dict(LOSSES))
    with pytest.raises(Refused, match="--proxies hold no 'mup' run"):
        confirm(recipe, read([tmp_path / "good"]), proxies=read([tmp_path / "sp"]))


def test_the_command_prints_and_writes_it(recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(recipe, tmp_path / "recipe.yaml")
    write_target(tmp_path / "target", recipe, dict(LOSSES))
    result = scalelab("confirm", str(tmp_path / "recipe.yaml"), str(tmp_path / "target"), "-o", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    text = squeezed(result.stdout)
    assert f"regret at the target: {REGRET:.4f} nats, 0.41 % of the loss" in text
    assert f"tried: {REGRET:+.4f} ± {SE:.4f}, standard error over paired seeds" in text
    plain = json.loads((tmp_path / "out" / "confirmation.json").read_text())
    assert plain["regret_nats"] == pytest.approx(REGRET) and plain["compute_share"] is None
    assert {"target.svg", "target.png"} <= {file.name for file in (tmp_path / "out").iterdir()}


def test_a_refused_confirmation_touches_nothing(recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(recipe, tmp_path / "recipe.yaml")
    write_target(tmp_path / "target", recipe, {1.0: (2.5,)})
    (tmp_path / "confirmation.json").write_text("of an earlier day")
    before = tree(tmp_path)
    arguments = ("confirm", str(tmp_path / "recipe.yaml"), str(tmp_path / "target"), "-o", str(tmp_path))
    assert "only the recipe's own lr" in one_line(scalelab(*arguments))
    assert tree(tmp_path) == before
