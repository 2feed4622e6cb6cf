"""Scales that no proxy varied: recipe and plan expect the same loss of them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scalelab.laws import Laws
from scalelab.laws.joint import priors
from scalelab.readers import read
from scalelab.recommend import recommend
from scalelab.recommend.accepted import largest
from scalelab.recommend.belief import WORST, believed, bounded
from scalelab.recommend.unseen import exponents, unseen
from scalelab.recommend.worlds import scale_of, worlds
from scalelab.spec import from_plain
from tests.conftest import make_spec
from tests.helpers import write_trial
from tests.recommend.conftest import linex
from tests.recommend.simulated import fitted

HERE = {"width": 64.0, "depth": 2.0, "tokens": 1e6, "batch_tokens": 1024.0}
CLAIMS = ("width", "depth")


@pytest.fixture(scope="module")
def laws(tmp_path_factory: pytest.TempPathFactory) -> Laws:
    """CompleteP, which claims width and depth, swept over widths alone."""
    folder: Path = tmp_path_factory.mktemp("flat")
    rng = np.random.default_rng(0)
    for width in (32, 48, 64, 96, 128):
        for lr in (2.0**k for k in range(-9, -3)):
            spec = make_spec("completep", width=width, tokens=81920)
            excess = 0.03 * linex(math.log(lr / 2**-6)) + 0.001 * rng.standard_normal()
            write_trial(folder, replace(spec, hparams=replace(spec.hparams, lr=lr)), (2 + 8 / width) * math.exp(excess))
    found = read([folder])
    names = ("parametrization", "optimizer", "data")
    group = replace(fitted(found.table), key={name: str(found.table[name].iloc[0]) for name in names})
    return Laws(groups=[group], theory={}, seed=0, draws=300, template=found.template, sources=[], conventions={})


@pytest.mark.parametrize("law", ["joint", "optima"])
def test_a_claim_that_no_run_tested_is_not_taken_for_certain(laws: Laws, law: str) -> None:
    if law == "optima":
        laws = replace(laws, groups=[replace(group, joint=None) for group in laws.groups])
    near, deep = (recommend(laws, target) for target in ({"width": 512}, {"width": 512, "depth": 32}))
    assert deep.regrets[0].nats > 10 * near.regrets[0].nats > 0
    assert deep.lr.high / deep.lr.low > 4 * near.lr.high / near.lr.low
    (said,) = (warning for warning in deep.warnings if warning.startswith("depth: no proxy varied it"))
    assert "as the table claims, is given 0.5, and else lr ∝ depth^-0.25 ± 0.4" in said
    assert not any("no proxy varied it" in warning for warning in near.warnings)


def test_recipe_and_plan_expect_the_same_loss(laws: Laws) -> None:
    recipe = recommend(laws, {"width": 512, "depth": 32})
    assert recipe.confirm[0].risk_nats == pytest.approx(recipe.regrets[0].nats, rel=0.35)  # that of 150 worlds
    (group,), target = laws.groups, from_plain(recipe.spec)
    proxy, rng = largest(laws, group), np.random.default_rng(0)
    assert group.joint is not None
    drawn = worlds(group.joint, proxy, target, CLAIMS, n=20_000, rng=rng)
    of_plan = np.expm1(drawn.excess(scale_of(target), [recipe.lr.value], rng, only_lr=True)).mean()
    known = believed(group, scale_of(target), CLAIMS, proxy=scale_of(proxy))
    of_recipe = known.excess({"lr": np.array([math.log(recipe.lr.value)])}).mean()
    assert of_recipe == pytest.approx(of_plan, rel=0.15)


def test_half_of_the_worlds_hold_a_claim_and_none_what_is_not_claimed() -> None:
    drawn = exponents(("depth", "tokens"), CLAIMS, 4000, np.random.default_rng(0))
    held = {name: float(np.mean(values == 0)) for name, values in drawn.items()}
    assert held == {"depth": pytest.approx(0.5, abs=0.03), "tokens": 0.0}
    for name, values in drawn.items():
        prior, free = priors.exponent("lr", name), values[values != 0]
        assert (free.mean(), free.std()) == pytest.approx((prior.mean, prior.sd), abs=0.03)


def test_what_was_varied_was_seen() -> None:
    there = {name: 4 * value for name, value in HERE.items()}
    single = {name: (value, value) for name, value in HERE.items()}
    assert unseen(("width",), single, HERE, there) == ["depth", "tokens", "batch_tokens"]
    assert unseen(("width",), single, HERE, {**HERE, "width": 256.0}) == []
    along = {**single, "tokens": (1e5, 1e6), "batch_tokens": (64.0, 1024.0)}  # with width, so the law has no exponent
    assert unseen(("width",), along, HERE, there) == ["depth", "batch_tokens"]
    assert unseen(("params_total",), single, HERE, there) == ["tokens", "batch_tokens"]
    sized = {**single, "params_total": (1e6, 1e7)}  # as width varied; the law is in width
    assert unseen(("width",), sized, HERE, there) == ["depth", "tokens", "batch_tokens"]
    assert unseen(("width",), single, {"batch_tokens": 1024.0}, there) == ["batch_tokens"]


def test_a_lost_run_is_as_lost_in_a_plan_as_in_a_recipe(laws: Laws) -> None:
    assert np.expm1(bounded(np.array([0.1, 0.69, 5.0, np.inf]))) == pytest.approx(
        [math.expm1(0.1), math.expm1(0.69), 1, 1]
    )
    (group,), rng = laws.groups, np.random.default_rng(0)
    spec = largest(laws, group)
    assert group.joint is not None
    drawn = worlds(group.joint, spec, spec, CLAIMS, n=100, rng=rng)
    known = believed(group, scale_of(spec), CLAIMS, proxy=scale_of(spec))
    worst = np.expm1(drawn.excess(scale_of(spec), [1e9], rng)), known.excess({"lr": np.array([math.log(1e9)])})
    assert [float(each.max()) for each in worst] == pytest.approx([WORST, WORST])
