"""A recipe of rate, batch and weight decay: the truth is found, and every number traces to the laws."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from scalelab.errors import Refused
from scalelab.laws import GroupLaws, Laws
from scalelab.laws.fitted import Estimate
from scalelab.recipe import Recipe, Regret, Value
from scalelab.recommend import recommend
from scalelab.resolve import settings
from scalelab.spec import from_plain
from tests.recommend.conftest import best, settings_of

TARGET = {"width": 256, "tokens": 327680}


def value(recipe: Recipe, name: str) -> Value:
    (found,) = (each for each in recipe.values if each.name == name)
    return found


def lost(recipe: Recipe) -> dict[tuple[str, float], Regret]:
    return {(each.setting, each.factor): each for each in recipe.regrets}


@pytest.fixture(scope="module")
def recipe(swept: Laws) -> Recipe:
    return recommend(swept, TARGET)


def test_it_finds_the_best_rate_batch_and_decay_of_a_scale_that_was_never_run(recipe: Recipe) -> None:
    spec = from_plain(recipe.spec)
    there, at = best(spec), settings_of(spec)
    assert spec.horizon.batch_tokens == 512 == round(math.exp(there["batch_tokens"]))
    assert at["lr"] == pytest.approx(there["lr"], abs=0.25)
    assert at["tau"] == pytest.approx(there["tau"], abs=0.35)
    for name in ("lr", "batch_tokens", "weight_decay", "tau"):
        found = value(recipe, name)
        assert found.low is not None and found.high is not None and isinstance(found.value, float)
        assert found.low < found.value < found.high, name
    assert value(recipe, "lr").low <= math.exp(there["lr"]) <= value(recipe, "lr").high  # type: ignore[operator]


def test_every_value_says_where_it_comes_from(recipe: Recipe) -> None:
    sources = {each.name: each.source for each in recipe.values}
    assert (sources["lr"], sources["batch_tokens"], sources["weight_decay"]) == ("both", "law", "law")
    assert sources["schedule"] == sources["clip_norm"] == sources["beta2"] == "proxies"
    assert sources["eps"] == sources["init"] == "theory"
    assert {"warmup", "final_lr_ratio", "beta1", "embedding_multiplier"} <= sources.keys()
    assert all(each.rests_on for each in recipe.values)


def test_what_is_stated_around_the_setting_is_in_every_unit(recipe: Recipe) -> None:
    found = lost(recipe)
    assert {name for name, _ in found} == {"recommended", "lr", "batch_tokens", "weight_decay"}
    chosen = found["recommended", 1.0]
    for regret in found.values():
        assert regret.nats >= chosen.nats > 0 and regret.high >= regret.nats
        assert regret.loss_percent is not None and regret.compute_percent is not None
        at = recipe.evidence["loss_at_target"]
        assert regret.nats == pytest.approx(regret.loss_percent / 100 * at["nats"])
        slope = at["nats_per_e_fold_of_compute"]
        assert regret.compute_percent == pytest.approx(100 * math.expm1(regret.nats / slope))


def test_the_batch_that_is_asked_for_stays_and_its_price_is_shown(swept: Laws, recipe: Recipe) -> None:
    asked = recommend(swept, {**TARGET, "batch_tokens": 1024})
    assert asked.target["batch_tokens"] == 1024
    assert value(asked, "batch_tokens").source == "asked" and "says 5" in value(asked, "batch_tokens").rests_on
    (row,) = (row for row in asked.evidence["batches"] if row["chosen"])
    assert row["batch_tokens"] == 1024 and row["steps"] == 320
    by_batch = {row["batch_tokens"]: row["excess_loss_percent"] for row in recipe.evidence["batches"]}
    assert min(by_batch, key=lambda batch: by_batch[batch]) == 512 and by_batch[1024] > 3 * by_batch[512]
    assert asked.regrets[0].nats > recipe.regrets[0].nats
    assert asked.lr.value > recipe.lr.value  # by the conditional law
    critical = recipe.evidence["critical_batch_tokens"]
    assert critical == pytest.approx(0.0471 * 2048 * 327680**0.462)
    for row in recipe.evidence["batches"]:
        assert row["excess_tokens_percent"] == pytest.approx(100 * row["batch_tokens"] / critical)


def test_tokens_are_rounded_to_whole_steps_of_a_batch_that_is_chosen(swept: Laws) -> None:
    found = recommend(swept, {"width": 256, "tokens": 1_000_000})
    assert found.target["batch_tokens"] == 1024 and found.target["tokens"] == 977 * 1024
    (said,) = (value for value in found.values if value.name == "tokens")
    assert said.value == 977 * 1024 and said.rests_on == "as you said; of 1,000,000 these are whole steps"
    with pytest.raises(Refused, match="not a whole number of steps"):
        recommend(swept, {"width": 256, "tokens": 1_000_000, "batch_tokens": 1024})
    own = recommend(swept, {"width": 256, "tokens": 82_000})  # the best batch is the proxies' own or its neighbour
    assert own.target["tokens"] % own.target["batch_tokens"] == 0 and abs(own.target["tokens"] - 82_000) < 256


def test_weight_decay_is_that_of_tau(recipe: Recipe) -> None:
    spec = from_plain(recipe.spec)
    hidden = next(s for s in settings(spec) if s.tensor.role == "hidden")
    steps = 1 / (hidden.lr * hidden.weight_decay)
    assert value(recipe, "tau").value == pytest.approx(steps / spec.horizon.steps)
    assert f"{steps:,.0f} of {spec.horizon.steps:,} steps" in value(recipe, "tau").rests_on


# --- every number is the laws' ----------------------------------------------------------------------------------------


def changed(laws: Laws, change: Callable[[GroupLaws], GroupLaws]) -> Laws:
    return replace(laws, groups=[change(group) for group in laws.groups])


def moved(laws: Laws, **by: float) -> Laws:
    """The laws with parameters of the joint fit moved."""

    def change(group: GroupLaws) -> GroupLaws:
        assert group.joint is not None
        estimates: dict[str, Estimate] = dict(group.joint.estimates)
        draws: dict[str, Any] = dict(group.joint.draws)
        for key, shift in by.items():
            name = key.replace("__", " ~ ").replace("_curvature", " curvature").replace("_skew", " skew")
            estimates[name] = replace(estimates[name], value=estimates[name].value + shift)
            draws[name] = tuple(draw + shift for draw in draws[name])
        return replace(group, joint=replace(group.joint, estimates=estimates, draws=draws))

    return changed(laws, change)


def test_a_moved_law_moves_its_value_and_its_interval(swept: Laws, recipe: Recipe) -> None:
    for by, names in (
        ({"lr": 0.5}, ("lr",)),
        ({"tau": 0.5}, ("weight_decay", "tau")),
        ({"batch_tokens": math.log(2)}, ("batch_tokens", "lr", "weight_decay")),
        ({"lr__tokens": 0.2}, ("lr",)),
        ({"lr__batch_tokens": 0.2}, ("lr",)),
    ):
        other = recommend(moved(swept, **by), TARGET)
        for name in names:
            was, is_now = value(recipe, name), value(other, name)
            assert was.value != pytest.approx(is_now.value, rel=0.05), (by, name)
            assert was.low != pytest.approx(is_now.low, rel=0.05), (by, name)
    higher = recommend(moved(swept, lr=0.5), TARGET)
    assert math.log(higher.lr.value / recipe.lr.value) == pytest.approx(0.5, abs=0.02)
    assert math.log(higher.lr.high / recipe.lr.high) == pytest.approx(0.5, abs=0.02)


def test_steeper_valleys_cost_more_each_its_own(swept: Laws, recipe: Recipe) -> None:
    was = lost(recipe)
    for name, setting in (("lr", "lr"), ("batch_tokens", "batch_tokens"), ("tau", "weight_decay")):
        steeper = lost(recommend(moved(swept, **{f"{name}_curvature": math.log(2)}), TARGET))
        assert steeper[setting, 2.0].nats > 1.3 * was[setting, 2.0].nats
    skewed = recommend(moved(swept, lr_skew=1.0), TARGET)
    ratio = [lost(r)["lr", 2.0].nats / lost(r)["lr", 0.5].nats for r in (recipe, skewed)]
    assert ratio[1] > 1.2 * ratio[0]  # too high a rate costs more
    assert skewed.lr.value < recipe.lr.value  # so a lower one is taken


def test_scatter_between_scales_widens_intervals_and_costs(swept: Laws, recipe: Recipe) -> None:
    def scattered(group: GroupLaws) -> GroupLaws:
        assert group.joint is not None
        scatter: Mapping[str, float] = {name: 3 * octaves for name, octaves in group.joint.scatter.items()}
        return replace(group, joint=replace(group.joint, scatter=dict(scatter)))

    other = recommend(changed(swept, scattered), TARGET)
    assert other.lr.high / other.lr.low > 1.2 * recipe.lr.high / recipe.lr.low
    assert other.regrets[0].nats > 1.5 * recipe.regrets[0].nats


def test_the_price_in_compute_is_the_loss_laws(swept: Laws, recipe: Recipe) -> None:
    def flatter(group: GroupLaws) -> GroupLaws:
        law = group.loss_fits["kaplan"]
        halved = {
            name: replace(e, value=e.value / (2 if name.startswith("alpha") else 1))
            for name, e in law.estimates.items()
        }
        return replace(group, loss_fits={"kaplan": replace(law, estimates=halved)})

    other = recommend(changed(swept, flatter), TARGET)
    assert other.evidence["loss_at_target"]["nats"] != pytest.approx(
        recipe.evidence["loss_at_target"]["nats"], rel=0.05
    )
    assert other.regrets[1].compute_percent > 1.3 * recipe.regrets[1].compute_percent  # type: ignore[operator]
    without = recommend(changed(swept, lambda group: replace(group, loss_fits={})), TARGET)
    assert {regret.compute_percent for regret in without.regrets} == {None}
    assert "no law of the loss was fitted" in without.evidence["loss_at_target"]["rests_on"]


def test_an_optimizer_that_was_not_swept_is_refused(swept: Laws) -> None:
    assert recommend(swept, TARGET, optimizer="adamw").optimizer == "adamw"
    with pytest.raises(Refused, match="optimizer in these laws 'muon'"):
        recommend(swept, TARGET, optimizer="muon")
