"""Exponents: recovered, covered, equal to independent implementations, honest on few scales and bounds."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize
from scipy.stats import norm

from scalelab.errors import Refused
from scalelab.laws import study
from scalelab.laws.optima import censored
from scalelab.laws.optima.regression import TWO_STAGE
from tests.laws.sweeps import stages, sweep, true_log2_lr


def power(table: pd.DataFrame, **options: object):
    return stages(table, **options).fits["power"]


def test_exponent_is_recovered(rng):
    width = power(sweep(rng)).estimates["width"]
    assert width.contains(-0.4)
    assert width.value == pytest.approx(-0.4, abs=0.05)


def test_exponent_intervals_cover_as_often_as_they_say():
    """Cells scatter by 0.15 octaves, which the intervals of few scales assume."""
    hit = 0
    for repetition in range(200):
        rng = np.random.default_rng([9, repetition])
        table = sweep(rng, centre=-7 + rng.uniform(-0.5, 0.5), scatter=0.15, seeds=2)
        hit += power(table, draws=300).estimates["width"].contains(-0.4)
    assert 0.88 <= hit / 200 <= 0.99


def test_predictions_cover_a_new_scale():
    hit = 0
    for repetition in range(100):
        rng = np.random.default_rng([10, repetition])
        table = sweep(rng, scatter=0.15, seeds=2)
        predicted = power(table, draws=400).predict(width=4096)
        new = true_log2_lr(4096) + 0.15 * rng.standard_normal()
        hit += predicted.low <= 2**new <= predicted.high
    assert hit / 100 >= 0.85


def test_point_estimate_is_weighted_least_squares(rng):
    group = stages(sweep(rng, scatter=0.2))
    fitted = group.fits["power"]
    x = np.log2([o.scale["width"] / 128 for o in group.optima])
    weights = [1 / (o.sd_octaves**2 + fitted.scatter**2) for o in group.optima]
    oracle = sm.WLS([o.log2_lr for o in group.optima], sm.add_constant(x), weights=weights).fit()
    assert [fitted.estimates[name].value for name in ("log2_lr", "width")] == pytest.approx(list(oracle.params))
    assert fitted.residuals == pytest.approx(list(oracle.resid))
    assert (np.array(weights) * oracle.resid**2).sum() == pytest.approx(2)  # the moment equation, two dof


def test_censored_maximum_is_what_a_general_optimizer_finds(rng):
    x = np.arange(8.0)
    design = np.stack([np.ones(8), x], axis=-1)
    y = 1 - 0.5 * x + 0.3 * rng.standard_normal(8)
    low, high = y.copy(), y.copy()
    low[1], high[1] = -np.inf, y[1] + 0.1
    low[6], high[6] = y[6] - 0.2, np.inf
    low[3], high[3] = y[3] - 0.3, y[3] + 0.1
    variance = np.full(8, 0.3**2)

    def negative_log_likelihood(beta):
        mean = design @ beta
        point = low == high
        mass = norm.cdf(high[~point], mean[~point], 0.3) - norm.cdf(low[~point], mean[~point], 0.3)
        return -norm.logpdf(y[point], mean[point], 0.3).sum() - np.log(mass).sum()

    oracle = minimize(negative_log_likelihood, [0, 0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    assert censored.maximum(design, low, high, variance) == pytest.approx(oracle.x, abs=1e-5)
    draws = censored.sample(
        design,
        low,
        high,
        np.tile(variance, (4000, 1)),
        lambda: 0.3 * rng.standard_normal((4000, 8)),
        oracle.x,
        rng,
    )
    hessian = np.array(
        [
            [
                sum(
                    s * t * negative_log_likelihood(oracle.x + 1e-3 * (s * np.eye(2)[i] + t * np.eye(2)[j]))
                    for s in (1, -1)
                    for t in (1, -1)
                )
                / 4e-6
                for j in range(2)
            ]
            for i in range(2)
        ]
    )
    assert draws.mean(axis=0) == pytest.approx(oracle.x, abs=0.03)
    assert np.cov(draws.T) == pytest.approx(np.linalg.inv(hessian), rel=0.2, abs=1e-3)


def test_censored_maximum_refuses_what_bounds_cannot_determine():
    with pytest.raises(Refused, match="undetermined"):
        censored.maximum(np.ones((2, 1)), np.array([0.0, 1.0]), np.array([np.inf, np.inf]), np.ones(2))


def test_a_censored_scale_is_neither_dropped_nor_taken_for_a_point(rng):
    full = sweep(rng, exponent=-1.0, centre=-6, log2_lrs=tuple(range(-12, -3)))
    cut = full[(full["width"] < 1024) | (full["lr"] >= 2.0**-9)]
    group = stages(cut)
    assert [o.status for o in group.optima] == ["INTERIOR"] * 3 + ["AT_OR_BELOW"]
    assert group.fits["power"].estimates["width"].value == pytest.approx(-1.0, abs=0.1)
    assert group.fits["power"].n == 4
    assert len(group.fits["power"].residuals) == 3


def test_brackets_alone_can_carry_a_law(rng):
    parts = [
        sweep(rng, widths=(width,), centre=-6.8 - k, diverged_from=-6 - k) for k, width in enumerate((128, 256, 512))
    ]
    group = stages(pd.concat(parts))
    assert {o.status for o in group.optima} == {"BRACKETED"}
    width = group.fits["power"].estimates["width"]
    assert width.contains(-1.0)
    assert width.high - width.low > 0.3


def test_theory_is_held_against_measurement(rng):
    table = pd.concat([sweep(rng, exponent=0.0), sweep(rng, exponent=-1.0, optimizer="sgd")])
    both = [stages(table, place=place, theory={"width": 0}) for place in (0, 1)]
    agreeing, breaking = (group.fits["power"].estimates["width"] for group in both)
    assert agreeing.contains(0) and abs(agreeing.z(0)) < 2
    assert not breaking.contains(0) and breaking.z(0) < -5
    constant = both[0].fits["constant"]
    assert constant.estimates["width"].low == constant.estimates["width"].high == 0
    assert constant.predict(width=8192).value == pytest.approx(2**-7.2, rel=0.1)


def test_hold_out_is_the_error_of_a_law_that_never_saw_the_largest(rng):
    table = sweep(rng)
    held = power(table).hold_out
    without = power(table[table["width"] < 1024])
    largest = stages(table).optima[-1]
    assert held.scale["width"] == 1024
    assert held.predicted_log2_lr == pytest.approx(np.log2(without.predict(width=1024).value), abs=0.01)
    assert held.error_octaves == held.predicted_log2_lr - largest.log2_lr
    side = largest.curvature_below if held.error_octaves < 0 else largest.curvature_above
    assert held.excess_nats == pytest.approx(side * held.error_octaves**2)
    assert power(table[table["width"] < 512]).hold_out is None


def test_few_scales_say_what_the_interval_rests_on(rng):
    two = power(sweep(rng, widths=(128, 256)))
    assert "0 degrees of freedom" in two.status
    four = power(sweep(rng))
    wide, narrow = (f.estimates["width"].high - f.estimates["width"].low for f in (two, four))
    assert wide > 2 * narrow


def test_one_scale_is_refused(rng):
    with pytest.raises(Refused, match=r"one scale only \(width 128"):
        study(sweep(rng, widths=(128,)))


def test_inputs_that_move_together_are_not_told_apart(rng):
    table = sweep(rng)
    table["tokens"] = 20 * table["params_non_embedding"]
    fitted = power(table)
    assert set(fitted.estimates) == {"log2_lr", "width"}
    assert "tokens did not vary on its own" in fitted.status


def test_two_inputs_are_told_apart_where_they_vary_apart(rng):
    parts = [sweep(rng, centre=-7.2 - 0.3 * k, tokens=10**8 * 4**k) for k in range(3)]
    fitted = power(pd.concat(parts))
    assert fitted.estimates["width"].contains(-0.4)
    assert fitted.estimates["tokens"].contains(-0.15)
    assert fitted.estimates["tokens"].value == pytest.approx(-0.15, abs=0.03)


def test_prediction_says_how_far_outside_it_is(rng):
    fitted = power(sweep(rng))
    inside, outside = fitted.predict(width=256), fitted.predict(width=10240, tokens=1e10)
    assert inside.outside == {}
    assert outside.outside == pytest.approx({"width": 1.0, "tokens": 2.0})
    assert outside.low < outside.value < outside.high
    assert np.log(outside.high / outside.low) > np.log(inside.high / inside.low)
    for inputs, message in (
        ({}, "width not given"),
        ({"width": -1}, "finite number > 0"),
        ({"wdith": 256}, "did you mean 'width'"),
    ):
        with pytest.raises(Refused, match=message):
            fitted.predict(**inputs)


@pytest.mark.parametrize("name", TWO_STAGE)
def test_registered_laws_state_themselves(name):
    law, _ = TWO_STAGE[name]
    assert law.name == name
    assert law.inputs and law.form and law.source
    assert law.output == "lr"
