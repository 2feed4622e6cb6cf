"""Regret: means over what may be true, the setting that loses least, and what it is in compute."""

import math

import numpy as np
import pytest

from scalelab.laws.joint.valley import valley
from scalelab.recommend.averaging import Average
from scalelab.recommend.belief import Belief, Logs
from scalelab.recommend.regret import Level, regrets, safest

LEVEL = Level(nats=2.0, slope_nats=0.1, rests_on="a law")


def belief(*, sd: float, skew: float, kappa: float = 0.04, valleys: tuple[str, ...] = ("lr",)) -> Belief:
    """The best ln lr is normal about −4; every valley is the same."""
    best_D1 = {name: -4 + sd * np.random.default_rng(len(name)).standard_normal((4000, 1)) for name in ("lr", "tau")}

    def best(name: str, logs: Logs) -> np.ndarray:
        return best_D1[name]

    def height(name: str, logs: Logs) -> np.ndarray:
        return kappa * valley(logs[name] - best_D1[name], skew)[0]

    return Belief(
        averages={"a law": Average(members=(), claimed=())}, theory_D=np.zeros(4000, bool), valleys=valleys, best=best,
        height=height,
    )  # fmt: skip


def test_a_steeper_high_side_makes_the_safest_rate_a_lower_one() -> None:
    assert safest(belief(sd=0.4, skew=0.0), "lr", {}) == pytest.approx(-4, abs=0.02)
    shifts = [safest(belief(sd=sd, skew=0.8), "lr", {}) + 4 for sd in (0.1, 0.4, 0.8)]
    assert shifts == sorted(shifts, reverse=True) and shifts[-1] < -0.15  # the less is known the lower
    assert shifts[1] == pytest.approx(-0.8 * 0.4**2 / 2, abs=0.02)  # linex with a normal: −s·σ²/2


def test_no_rate_above_the_middle_is_taken_however_little_is_known() -> None:
    for sd, skew in ((0.4, -0.8), (4.0, 0.8)):
        vague = belief(sd=sd, skew=skew)
        assert safest(vague, "lr", {}) <= float(np.median(vague.best("lr", {}))) + 1e-3


def test_the_safest_rate_loses_least_of_all() -> None:
    believed = belief(sd=0.6, skew=0.8)
    at = safest(believed, "lr", {})
    losses = [float(believed.excess({"lr": np.array([at + off])}).mean()) for off in (-0.2, 0.0, 0.2)]
    assert losses[1] == min(losses)


def test_regrets_are_means_over_the_worlds_in_every_unit() -> None:
    found = regrets(belief(sd=0.3, skew=0.0), {"lr": -4.0}, LEVEL)
    assert [(r.setting, r.factor) for r in found] == [("recommended", 1.0), ("lr", 0.5), ("lr", 2.0)]
    expected = [0.04 * (0.3**2 + off**2) / 2 for off in (0.0, math.log(2), math.log(2))]
    for regret, share in zip(found, expected, strict=True):
        assert regret.nats == pytest.approx(2 * share, rel=0.08)
        assert regret.loss_percent == pytest.approx(100 * share, rel=0.08)
        assert regret.compute_percent == pytest.approx(100 * math.expm1(regret.nats / 0.1))
        assert regret.high > regret.nats


def test_without_a_law_of_the_loss_there_is_no_price_in_compute() -> None:
    found = regrets(belief(sd=0.3, skew=0.0), {"lr": -4.0}, Level(nats=2.0, slope_nats=None, rests_on="none"))
    assert {r.compute_percent for r in found} == {None}


def test_without_a_valley_nothing_is_stated_and_the_middle_is_taken() -> None:
    blind = belief(sd=0.3, skew=0.8, valleys=())
    assert regrets(blind, {"lr": -4.0}, LEVEL) == ()
    assert safest(blind, "lr", {}) == pytest.approx(float(np.median(blind.best("lr", {}))))


def test_twice_the_weight_decay_is_half_of_tau_and_twice_the_rate_too() -> None:
    both = belief(sd=1e-6, skew=0.0, valleys=("lr", "tau"))
    by = {(r.setting, r.factor): r.nats for r in regrets(both, {"lr": -4.0, "tau": -4.0}, LEVEL)}
    once = 2 * math.expm1(0.04 * math.log(2) ** 2 / 2)
    assert by["weight_decay", 2.0] == pytest.approx(once, rel=1e-3)
    assert by["lr", 2.0] == pytest.approx(2 * once, rel=2e-2)  # its own valley and τ's


def test_no_regret_exceeds_the_loss() -> None:
    found = regrets(belief(sd=0.1, skew=3.0), {"lr": 6.0}, LEVEL)
    assert all(r.nats <= LEVEL.nats and math.isfinite(r.nats) for r in found)
