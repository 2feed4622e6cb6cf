"""Optima of known valleys: unbiased, honestly uncertain, censored where they should be."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalelab.errors import Refused
from scalelab.laws import study
from tests.laws.sweeps import stages, sweep, true_log2_lr


def optima(table: pd.DataFrame, **options: object) -> list:
    return stages(table, **options).optima


def test_known_optimum_is_recovered_exactly_without_noise(rng):
    for o in optima(sweep(rng, noise_nats=0, offset_nats=0)):
        assert o.status == "INTERIOR"
        assert o.log2_lr == pytest.approx(true_log2_lr(o.scale["width"]), abs=0.02)
        assert o.curvature_below == pytest.approx(0.04 * 0.9, rel=0.1)
        assert o.curvature_above == pytest.approx(0.04 * 1.1, rel=0.1)


@pytest.mark.parametrize(("seeds", "offset"), [(3, 0.004), (2, 0.0), (1, 0.0)])
def test_intervals_cover_as_often_as_they_say(seeds, offset):
    hit = total = 0
    for repetition in range(60):
        rng = np.random.default_rng([seeds, repetition])
        centre = -7 + rng.uniform(-0.5, 0.5)
        for o in optima(sweep(rng, seeds=seeds, centre=centre, offset_nats=offset), draws=400):
            total += 1
            hit += o.low <= true_log2_lr(o.scale["width"], centre=centre) <= o.high
    assert total > 200
    assert 0.88 <= hit / total <= 0.99


def test_skewed_valleys_are_less_biased_than_a_parabola_makes_them():
    ours, parabola = [], []
    for repetition in range(20):
        rng = np.random.default_rng(repetition)
        centre = -7 + rng.uniform(-0.5, 0.5)
        table = sweep(rng, centre=centre, kinked=True)
        for o in optima(table, draws=100):
            truth = true_log2_lr(o.scale["width"], centre=centre)
            runs = table[table["width"] == o.scale["width"]]
            near = runs[np.abs(np.log2(runs["lr"]) - truth) < 2.5]
            c2, c1, _ = np.polyfit(np.log2(near["lr"]), near["loss_nats"], 2)
            ours.append(o.log2_lr - truth)
            parabola.append(-c1 / (2 * c2) - truth)
    assert abs(np.mean(ours)) < 0.5 * abs(np.mean(parabola))
    assert abs(np.mean(ours)) < 0.15


def test_seed_offsets_do_not_move_or_blur_the_optimum():
    quiet = optima(sweep(np.random.default_rng(1), offset_nats=0.0))
    shifted = optima(sweep(np.random.default_rng(1), offset_nats=0.05))
    for a, b in zip(quiet, shifted, strict=True):
        assert b.noise.sd_nats > 5 * a.noise.sd_nats
        assert b.log2_lr == pytest.approx(a.log2_lr, abs=0.02)
        assert b.sd_octaves < 2 * a.sd_octaves


def test_noise_names_its_source(rng):
    replicated, single, three = (
        stages(sweep(rng, seeds=3)).noise,
        stages(sweep(rng, seeds=1)).noise,
        stages(sweep(rng, seeds=1, exponent=0, log2_lrs=(-8, -7, -6))).noise,
    )
    assert (replicated.source, single.source, three.source) == ("seed replicates", "residuals", "assumed")
    assert replicated.sd_nats == pytest.approx(np.hypot(0.004, 0.004), rel=0.4)
    assert three.dof == 0


def test_optimum_beyond_the_grid_is_an_inequality_and_says_what_to_add(rng):
    high = optima(sweep(rng, exponent=0, log2_lrs=(-12, -11, -10, -9)))[0]
    assert (high.status, high.low, high.high, high.log2_lr) == ("AT_OR_ABOVE", -10, None, None)
    assert "at or above" in high.advice
    assert "2^-8" in high.advice
    low = optima(sweep(rng, exponent=0, log2_lrs=(-6, -5, -4)))[0]
    assert (low.status, low.low, low.high, low.log2_lr) == ("AT_OR_BELOW", None, -5, None)
    assert "2^-7" in low.advice


def test_divergence_above_the_best_brackets_it(rng):
    for o in optima(sweep(rng, exponent=0, centre=-6.8, diverged_from=-6)):
        assert (o.status, o.low, o.high, o.log2_lr_stable) == ("BRACKETED", -8, -6, -7)
        assert "diverges" in o.advice


def test_one_diverged_seed_of_three_does_not_bracket(rng):
    table = sweep(rng, exponent=0)
    unlucky = (table["seed"] == 0) & (table["lr"] == 2.0**-6)
    table.loc[unlucky, ["loss_nats", "outcome"]] = [np.nan, "DIVERGED"]
    assert {o.status for o in optima(table)} == {"INTERIOR"}


def test_a_scale_that_always_diverged_bounds_its_optimum_from_above(rng):
    table = sweep(rng)
    table.loc[table["width"] == 1024, ["loss_nats", "outcome"]] = [np.nan, "DIVERGED"]
    laws = study(table)
    last = laws.groups[0].optima[-1]
    assert (last.status, last.high, last.log2_lr_stable, last.loss_nats) == ("DIVERGED", -10, None, None)
    assert laws.groups[0].lr_fits["power"].n == 4


def test_one_stable_lr_is_unusable(rng):
    table = sweep(rng)
    table = table[(table["width"] != 512) | (table["lr"] == 2.0**-8)]
    assert [o.status for o in optima(table)] == ["INTERIOR", "INTERIOR", "UNUSABLE", "INTERIOR"]


def test_all_diverged_is_refused(rng):
    with pytest.raises(Refused, match=r"every run diverged.*try lower LRs"):
        study(sweep(rng, diverged_from=-20))


def test_one_group_that_always_diverged_does_not_stop_the_others(rng):
    laws = study(pd.concat([sweep(rng), sweep(rng, optimizer="sgd", diverged_from=-20)]))
    kept, lost = laws.groups
    assert "power" in kept.lr_fits
    assert lost.lr_fits == {}
    assert {o.status for o in lost.optima} == {"DIVERGED"}
    assert "every run diverged" in lost.not_fitted["power"]


def test_excess_is_refused_where_there_is_no_valley(rng):
    with pytest.raises(Refused, match="no valley"):
        optima(sweep(rng, exponent=0, log2_lrs=(-6, -5, -4)))[0].excess_nats(-7)


TABLE = sweep(np.random.default_rng(3))
REFERENCE = optima(TABLE, draws=100)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_row_order_does_not_matter(random):
    order = list(range(len(TABLE)))
    random.shuffle(order)
    assert optima(TABLE.iloc[order], draws=100) == REFERENCE


@settings(max_examples=15, deadline=None)
@given(st.integers(-8, 8), st.floats(0, 5))
def test_rescaled_lrs_shift_and_offset_losses_do_nothing(octaves, offset):
    moved = TABLE.assign(lr=TABLE["lr"] * 2.0**octaves, loss_nats=TABLE["loss_nats"] + offset)
    for o, reference in zip(optima(moved, draws=100), REFERENCE, strict=True):
        assert o.log2_lr == pytest.approx(reference.log2_lr + octaves, abs=1e-6)
        assert o.sd_octaves == pytest.approx(reference.sd_octaves, abs=1e-6)
        assert o.loss_nats == pytest.approx(reference.loss_nats + offset, abs=1e-6)
