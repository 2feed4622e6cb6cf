"""A recipe without any run: whose each value is, that nothing is carried anywhere, what is refused."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.laws import PUBLISHED
from scalelab.models import count_params
from scalelab.plan import plan
from scalelab.recipe import Recipe, Value, read_recipe, write_recipe
from scalelab.recommend import asked, with_published
from scalelab.recommend.papers import PAPERS
from scalelab.recommend.quoted import beside, name_of, non_embedding_flops, papers_of
from scalelab.spec import RunSpec, from_plain
from scalelab.target import parse_target, parted
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, squeezed

LARGE = {"width": 4096, "depth": 32, "head_dim": 128, "tokens": 10**12}  # beyond what Step Law was fitted to
INSIDE = {"width": 1536, "depth": 12, "head_dim": 128, "tokens": 2 * 10**10}


def value(recipe: Recipe, name: str) -> Value:
    (found,) = [value for value in recipe.values if value.name == name]
    return found


def spec_of(recipe: Recipe) -> RunSpec:
    return from_plain(recipe.spec)


@pytest.fixture(scope="module")
def large() -> Recipe:
    return asked("step-law", LARGE)


@pytest.fixture(scope="module")
def inside() -> Recipe:
    return asked("step-law,power-lines,chinchilla/epoch", INSIDE)


# --- the values are the papers' ---------------------------------------------------------------------------------------


def test_learning_rate_and_batch_are_the_formulas_of_the_paper(large: Recipe) -> None:
    """Li et al. (arXiv:2503.04715): lr = 1.79 N^-0.713 D^0.307, batch = 0.58 D^0.571 tokens, N without embeddings."""
    spec = spec_of(large)
    batch = 0.58 * 1e12**0.571
    assert abs(spec.horizon.batch_tokens - batch) <= 1024 and spec.horizon.batch_tokens % 2048 == 0
    assert 0 <= 10**12 - spec.horizon.tokens < spec.horizon.batch_tokens
    n = count_params(spec).non_embedding
    assert n == large.params["non_embedding"]
    assert large.lr.value == pytest.approx(1.79 * n**-0.713 * 1e12**0.307, rel=1e-5)
    assert {group.lr for group in large.groups} == {large.lr.value}  # one rate for every tensor


def test_what_the_law_does_not_give_is_the_papers_setting_and_says_so(large: Recipe) -> None:
    spec = spec_of(large)
    assert (spec.horizon.schedule, spec.shape.context, spec.hparams.weight_decay) == ("cosine", 2048, 0.1)
    assert spec.horizon.warmup_tokens == 2000 * spec.horizon.batch_tokens
    assert spec.horizon.final_lr_ratio * spec.hparams.lr == pytest.approx(1e-5)
    for name in ("weight_decay", "schedule", "warmup_tokens", "final_lr_ratio", "beta2", "context"):
        assert value(large, name).source == "published" and "2503.04715" in value(large, name).rests_on
    assert any("from memory of the paper" in warning for warning in large.warnings)


def test_every_value_says_whose_it_is_where_it_was_fitted_and_how_far_away_that_is(large: Recipe) -> None:
    assert large.origin == "published" and large.warnings[0].startswith("no run of yours stands behind this")
    said = value(large, "lr").rests_on
    assert "fitted for params 2.15e+08 to 1.07e+09, tokens 4e+09 to 1e+11" in said
    assert "params is 0.78 decades above" in said and "tokens is 1.00 decades above" in said and "non_embedding" in said
    assert {value.source for value in large.values} == {"published", "asked"}
    assert "of 1,000,000,000,000 these are whole steps" in value(large, "tokens").rests_on
    assert large.evidence["published"]["lr"]["inputs"]["params"] == large.params["non_embedding"]


def test_base_and_target_are_one(large: Recipe) -> None:
    spec = spec_of(large)
    assert large.parametrization == "sp" and spec.base == spec.shape
    assert (spec.base_tokens, spec.base_batch_tokens) == (None, None)


def test_weight_decay_of_a_second_law_is_at_the_learning_rate_of_the_first(inside: Recipe) -> None:
    """Bergsma et al. (arXiv:2505.13738): B/(lr·λ·D) = 1.084 (D/N)^-0.527."""
    spec = spec_of(inside)
    tokens, n = spec.horizon.tokens, count_params(spec).total
    tau = spec.horizon.batch_tokens / (spec.hparams.lr * spec.hparams.weight_decay * tokens)
    assert tau == pytest.approx(1.084 * (tokens / n) ** -0.527, rel=1e-4)
    assert spec.horizon.batch_tokens == pytest.approx(0.58 * 2e10**0.571, rel=0.01)  # of two batch laws the first
    assert "2505.13738" in value(inside, "weight_decay").rests_on
    assert "range of its fit is not recorded" in value(inside, "weight_decay").rests_on


def test_deepseeks_compute_is_its_own() -> None:
    """arXiv:2401.02954 eq. 2: M = 72·depth·width² + 12·depth·width·context of a network with 12·width² a block."""
    recipe = asked("deepseek", LARGE, ["schedule=cosine", "final_lr_ratio=0.1", "model.mlp=gelu", "model.mlp_ratio=4"])
    spec = spec_of(recipe)
    m = 72 * 32 * 4096**2 + 12 * 32 * 4096 * 4096
    assert non_embedding_flops(spec) == m
    assert recipe.lr.value == pytest.approx(0.3118 * (m * 1e12) ** -0.125, rel=1e-6)
    assert spec.horizon.batch_tokens == pytest.approx(0.2920 * (m * 1e12) ** 0.3271, rel=1e-3)
    assert value(recipe, "schedule").source == "asked" and spec.shape.context == 4096


def test_what_the_user_says_is_kept() -> None:
    said = ["optimizer.weight_decay=0.05", "warmup_fraction=0.02", "optimizer.beta2=0.98", "context=4096"]
    spec = spec_of(recipe := asked("step-law", INSIDE, said))
    assert (spec.hparams.weight_decay, spec.hparams.beta2, spec.shape.context) == (0.05, 0.98, 4096)
    assert (spec.horizon.warmup_fraction, spec.horizon.warmup_tokens) == (0.02, None)
    assert value(recipe, "weight_decay").source == value(recipe, "beta2").source == "asked"
    by_lr = asked("step-law", INSIDE, ["lr=1e-3"])
    assert by_lr.lr.kind == "asked" and by_lr.lr.value == 1e-3 and by_lr.regrets == ()


def test_another_batch_is_said_not_to_be_the_laws(inside: Recipe) -> None:
    recipe = asked("step-law,chinchilla/epoch", {**INSIDE, "batch_tokens": 2**20})
    assert recipe.target["batch_tokens"] == 2**20
    assert any("its own batch of 4.42e+05 tokens; this is ×2.37 of it: not corrected" in w for w in recipe.warnings)
    assert math.isnan(recipe.lr.low) and recipe.regrets == ()
    assert not any("not corrected" in warning for warning in inside.warnings)


def test_other_laws_stand_beside_the_chosen_one(large: Recipe) -> None:
    assert [choice.law.split(":")[0] for choice in large.choices] == [
        "step_law_lr/step_law", "deepseek_lr/deepseek", "porian_lr/porian"
    ]  # fmt: skip
    assert large.choices[0] == large.lr


# --- what may be lost -------------------------------------------------------------------------------------------------


def test_regret_is_the_sources_own_inside_its_fit_and_absent_outside(large: Recipe, inside: Recipe) -> None:
    assert large.regrets == () and math.isnan(large.lr.low)
    assert any("no regret is given: the target is outside" in warning for warning in large.warnings)
    loss = value(inside, "loss").value
    assert isinstance(loss, float)
    recommended, half, double = inside.regrets
    assert recommended.nats == pytest.approx(loss * 0.094 / 100)  # the abstract's
    assert recommended.nats < half.nats < double.nats
    assert inside.lr.value / inside.lr.low == pytest.approx(2 ** (1.96 * 0.21))
    bare = asked("step-law", INSIDE)
    assert bare.regrets == () and any("0.094 %" in warning for warning in bare.warnings)


def test_the_record_of_step_law_is_that_of_its_released_runs(published: Path) -> None:
    """Of each scale's best batch: the parabola through the lowest losses against ln lr, and the runs beside it."""
    runs = pd.read_csv(published / "steplaw" / "dense_lr_bs_loss.csv")
    runs = runs[runs["smooth loss"] < 4]
    runs["octave"] = np.round(2 * np.log2(runs["lr"])) / 2  # a √2 grid, rounded two ways in the file
    off, half, double, scales = [], [], [], []
    for (n, d), scale in runs.groupby(["N", "D"]):
        found = [curve for _, batch in scale.groupby("bs") if (curve := _bottom(batch)) is not None]
        if not found:
            continue
        floor, best, x, y = min(found, key=lambda curve: curve[0])
        off.append(math.log2(1.79 * n**-0.713 * d**0.307) - best)
        half.append(100 * (np.interp(best - 1, x, y, left=math.nan) / floor - 1))
        double.append(100 * (np.interp(best + 1, x, y, right=math.nan) / floor - 1))
        scales.append((n, d))
    record = PUBLISHED["step_law_lr/step_law"].record
    assert record is not None and record.valley_percent is not None and len(scales) == 16
    assert record.octaves == pytest.approx(np.sqrt(np.mean(np.square(off))), abs=0.005)
    assert record.valley_percent == pytest.approx((np.nanmedian(half), np.nanmedian(double)), abs=0.005)
    limits = {name: (runs[column].min(), runs[column].max()) for name, column in (("params", "N"), ("tokens", "D"))}
    for name, (low, high) in limits.items():
        assert record.domain[name] == pytest.approx((low, high), rel=1e-3)


def _bottom(batch: pd.DataFrame) -> tuple[float, float, np.ndarray, np.ndarray] | None:
    by_lr = batch.groupby("octave")["smooth loss"].mean()
    x, y = by_lr.index.to_numpy(), by_lr.to_numpy()
    at = int(y.argmin())
    if at in (0, len(x) - 1) or len(x) < 7:
        return None
    near = np.abs(x - x[at]) <= 1.01
    bend, slope, level = np.polyfit(x[near] - x[at], y[near], 2)
    if bend <= 0:
        return None
    best = -slope / (2 * bend)
    return float(np.polyval((bend, slope, level), best)), float(x[at] + best), x, y


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "target", "overrides", "said"),
    [
        ("nope", INSIDE, [], "unknown published law 'nope': accepted are deepseek"),
        ("step-lwa", INSIDE, [], "did you mean 'step_law'"),
        ("chinchilla/epoch", INSIDE, [], "none is a law of lr, batch or weight decay"),
        ("bjorck", INSIDE, [], "gives exponents and no coefficient, so no lr; accepted are step_law"),
        ("power-lines", INSIDE, [], "power_lines gives no lr: name a law of it too, of step_law"),
        ("porian", INSIDE, [], "porian gives no batch_tokens: name a law of it too.*say batch_tokens=… in --target"),
        ("porian", {**INSIDE, "batch_tokens": 2**19}, ["context=2048"], "porian gives no optimizer.weight_decay"),
        ("minicpm,step-law", INSIDE, [], "needs loss_nats, which a target does not state"),
        ("deepseek", INSIDE, [], "deepseek and schedule: its rate is multiplied by 0.316 at 80 %"),
        ("step-law", {"width": 1536, "tokens": 10**10}, [], "without depth in --target"),
        ("step-law", {**INSIDE, "tokens": 10**7}, [], "warmed up for 2,000 steps, more than half of this run"),
        ("step-law", INSIDE, ["base.width=256"], "base.width with --published.*the base is the target"),
        ("step-law", INSIDE, ["parametrization=mup", "base.width=256"], "the base is the target"),
        ("step-law", INSIDE, ["parametrization=u_mup"], "parametrization=u_mup with --published"),
        ("step-law", INSIDE, ["optimizer=muon"], "optimizer=muon with --published: .* AdamW's"),
        ("step-law", INSIDE, ["model=moe", "experts=8"], "experts=… with --published: sizes"),
        ("step-law", {**INSIDE, "experts": 8}, ["model=moe"], "a law of model=transformer, and this is model=moe"),
        ("ling-moe", INSIDE, [], "a law of model=moe, and this is model=transformer"),
        ("step-law", INSIDE, ["lr_factor=2"], "lr_factor=… with --published"),
        ("step-law", INSIDE, ["fast"], "'fast' with --published: accepted is KEY=VALUE"),
        ("step-law", INSIDE, ["depht=3"], "unknown key 'depht'"),
    ],
)
def test_refusals(names: str, target: dict[str, int], overrides: list[str], said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        asked(names, target, overrides)
    assert "\n" not in str(refused.value)


def test_a_table_of_the_users_changes_nothing_where_base_and_target_are_one(inside: Recipe) -> None:
    mup = asked("step-law", INSIDE, ["parametrization=mup"])
    assert mup.parametrization == "mup"
    assert {(g.role, g.lr) for g in mup.groups} == {(g.role, g.lr) for g in inside.groups}


def test_every_paper_is_that_of_a_published_law() -> None:
    assert set(PAPERS) <= {name_of(key) for key in PUBLISHED}
    for name in PAPERS:
        assert papers_of([name])


# --- as a command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_recipe_that_trains_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = scalelab(
        "recommend", "--published", "step-law", "--target", "width=1536", "depth=12", "tokens=20B", "--", "head_dim=128"
    )
    assert result.exit_code == 0, result.output
    text = squeezed(result.stdout)
    assert "no run of yours stands behind this recipe" in text and "arXiv:2503.04715" in text and "nan" not in text
    recipe = read_recipe(tmp_path / "recipe.yaml")
    (run,) = plan(recipe.overrides, multirun=False).runs
    assert run.spec == spec_of(recipe) and run.spec.horizon.warmup_tokens == 2000 * run.spec.horizon.batch_tokens


def test_an_interval_that_nobody_measured_survives_the_file(large: Recipe, tmp_path: Path) -> None:
    write_recipe(large, tmp_path / "recipe.yaml")
    again = read_recipe(tmp_path / "recipe.yaml")
    assert math.isnan(again.lr.low) and again.values == large.values and again.spec == large.spec


def test_the_list_names_every_law_of_a_hyperparameter() -> None:
    text = squeezed(scalelab("recommend", "--published", "list").stdout)
    assert "step-law lr" in text and "power-lines weight_decay" in text
    assert "exponents only: no recipe" in text and "chinchilla" not in text


def test_one_of_laws_and_published_is_needed() -> None:
    assert "--laws laws.json" in one_line(scalelab("recommend", "--target", "width=64"))
    said = one_line(scalelab("recommend", "--laws", "laws.json", "-t", "width=64", "lr=1"))
    assert "'lr=1' is no part of a target, and with --laws all else is as the runs had it" in said
    said = one_line(scalelab("recommend", "--published", "step-law", "-p", "mup", "-t", "width=64"))
    assert "-p and --optimizer choose among your laws" in said


def test_published_values_stand_beside_a_sweeps(large: Recipe) -> None:
    rows = with_published(large, "step-law,bjorck").values[len(large.values) :]
    assert [row.name for row in rows] == [
        "lr, step_law_lr/step_law", "batch_tokens, step_law_batch/step_law", "lr, bjorck_lr/bjorck"
    ]  # fmt: skip
    assert rows[0].value == pytest.approx(large.lr.value) and rows[2].value is None
    assert "exponents" in rows[2].rests_on
    assert all(row.source == "published" for row in beside(["step-law"], make_spec()))


def test_words_of_a_target_are_told_from_keys() -> None:
    assert parted(["depth=4", "tokens=1T", "optimizer.beta2=0.98"]) == (
        ["depth=4", "tokens=1T"],
        ["optimizer.beta2=0.98"],
    )
    assert parse_target(["width=64", "tokens=1.4T"]) == {"width": 64, "tokens": 1_400_000_000_000}
    with pytest.raises(Refused, match=r"tokens=1\.5: accepted is a positive whole number"):
        parse_target(["width=64", "tokens=1.5"])


def test_the_vocabulary_is_the_targets(large: Recipe) -> None:
    own = asked("step-law", LARGE, vocab=50304)
    assert spec_of(own).shape.vocab == 50304 and own.params["total"] > large.params["total"]
    assert own.lr.value == large.lr.value  # the law counts non-embedding parameters
    assert any("the vocabulary of 256 of data=embedded (say --vocab)" in warning for warning in large.warnings)
    assert not any("vocabulary" in warning for warning in own.warnings)
    line = one_line(scalelab("recommend", "--laws", "laws.json", "--vocab", "9", "--target", "width=64"))
    assert line.startswith("scalelab: --vocab with --laws")
