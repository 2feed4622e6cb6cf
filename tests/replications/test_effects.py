"""Findings on runs whose truth is known."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scalelab.errors import Refused
from scalelab.replications import Finding, at, carried, gap, regret, slope, tuned
from scalelab.replications.effects import _cells

WIDTHS = (16, 32, 64, 128)


def runs(
    *, exponent: float = -1.0, seeds: int = 3, noise: float = 0.003, widths: Sequence[int] = WIDTHS
) -> pd.DataFrame:
    """A valley of curvature .05 nats an octave², whose middle moves by `exponent` octaves a doubling from 2^-5."""
    rng = np.random.default_rng(7)
    rows = [
        {
            "run": f"{width}-{log2_lr}-{seed}", "parametrization": "sp", "optimizer": "adamw", "data": "embedded",
            "width": width, "lr": 2.0**log2_lr, "seed": seed, "outcome": "OK",
            "loss_nats": 2 + 5 / width + 0.05 * (log2_lr + 5 - exponent * math.log2(width / 16)) ** 2
            + noise * rng.standard_normal(),
        }
        for width in widths for log2_lr in range(-10, -1) for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("exponent", [-1.0, 0.0])
def test_a_slope_is_found_and_its_interval_holds_it(exponent: float) -> None:
    found = slope(runs(exponent=exponent), along="width", name="sp")
    assert found.low is not None and found.high is not None
    assert found.low <= exponent <= found.high and found.high - found.low < 0.4
    assert found.unit == "octaves a doubling of width" and found.n == len(runs())
    counted = runs(exponent=exponent).assign(params_non_embedding=lambda table: 24 * table["width"] ** 2)
    assert slope(counted, along="width", name="sp") == found, "what follows from the width makes no groups"


def test_carrying_loses_what_the_valley_says_and_nothing_where_the_optimum_stays() -> None:
    moved = carried(runs(exponent=-1.0), along="width", name="sp")
    assert moved.value == pytest.approx(0.05 * 3**2, abs=0.01) and moved.above(0.4)
    stayed = carried(runs(exponent=0.0), along="width", name="mup")
    assert stayed.value == 0 and stayed.within(0.01)


def test_a_run_that_diverged_is_never_best_and_carrying_into_it_is_infinite() -> None:
    table = runs(exponent=0.0)
    dead = (table["width"] == 128) & (table["lr"] >= 2**-5)
    table.loc[dead, ["outcome", "loss_nats"]] = ["DIVERGED", math.nan]
    assert tuned(table, along="width")["lr"].tolist() == [2**-5, 2**-5, 2**-5, 2**-6]
    assert carried(table, along="width", name="mup").value == math.inf


def test_the_edge_of_a_grid_is_told() -> None:
    found = tuned(at(runs(exponent=0.0), width=16), along="width")
    assert not found["edge"].item() and found["n"].item() == 3
    narrow = runs(exponent=0.0)
    assert tuned(narrow[narrow["lr"] <= 2**-5], along="width")["edge"].all()


def test_a_gap_is_that_of_scipy_paired_by_seed_or_not() -> None:
    table = runs(noise=0.1)
    a, b = (at(table, width=width, lr=2**-6) for width in (16, 128))
    paired = gap(a, b, name="wide")
    oracle = stats.ttest_rel(a["loss_nats"], b["loss_nats"]).confidence_interval(0.95)
    assert (paired.low, paired.high) == pytest.approx((oracle.low, oracle.high))
    assert paired.value == pytest.approx(a["loss_nats"].mean() - b["loss_nats"].mean()) and paired.n == 6
    welch = stats.ttest_ind(a["loss_nats"], b["loss_nats"][:2], equal_var=False).confidence_interval(0.95)
    unpaired = gap(a, b[:2], name="wide")
    assert (unpaired.low, unpaired.high) == pytest.approx((welch.low, welch.high))


def test_what_says_nothing_is_refused_in_one_line() -> None:
    table = runs()
    with pytest.raises(Refused, match="one seed says nothing of its noise"):
        carried(runs(seeds=1), along="width", name="sp")
    with pytest.raises(Refused, match="2 runs or more on each side"):
        gap(table[:1], table[1:], name="sp")
    with pytest.raises(Refused, match="no run has width=17"):
        at(table, width=17)
    with pytest.raises(Refused, match="no column 'heads'"):
        at(table, heads=1)
    with pytest.raises(Refused, match="runs of 2 groups"):
        slope(table.assign(optimizer=["adamw", "sgd"] * (len(table) // 2)), along="width", name="sp")
    with pytest.raises(Refused, match="was not run at the smallest's best"):
        carried(table[(table["width"] != 128) | (table["lr"] == 2**-9)], along="width", name="sp")


def test_intervals_answer_in_words_of_bounds() -> None:
    small = Finding(name="x", value=0.0, low=-0.1, high=0.1, n=3)
    assert small.within(0.2) and not small.within(0.05) and not small.above(0) and not small.below(0)
    bare = Finding(name="x", value=0.0, n=3)
    assert not bare.within(1) and bare.number == "0"
    with pytest.raises(Refused, match="both limits"):
        Finding(name="x", value=0.0, low=0.0, n=3)


def test_a_regret_is_the_valleys_and_holds_zero_only_near_the_optimum() -> None:
    target = at(runs(exponent=0.0), width=128)
    off = regret(target, 2**-4, name="an octave above")
    assert off.value == pytest.approx(0.05, abs=0.01) and off.above(0.02)
    best = regret(target, 2**-5, name="at the optimum")
    assert best.low == 0 and best.within(0.01)
    with pytest.raises(Refused, match="one group at one scale"):
        regret(runs(), 2**-5, name="all")
    with pytest.raises(Refused, match="no valley there"):
        regret(target[target["lr"] <= 2**-7], 2**-8, name="one side")


def made(losses: Mapping[tuple[int, float], Sequence[float | None]]) -> pd.DataFrame:
    """Runs by width and learning rate, a loss a seed; None where it diverged."""
    return pd.DataFrame([
        {"width": width, "lr": lr, "seed": seed, "loss_nats": loss, "outcome": "DIVERGED" if loss is None else "OK"}
        for (width, lr), seeds in losses.items() for seed, loss in enumerate(seeds)
    ]).astype({"loss_nats": float})  # fmt: skip


def test_the_largest_may_be_best_where_the_smallest_was_not_run() -> None:
    small = {(16, lr): (2 + math.log2(lr), 2.01 + math.log2(lr)) for lr in (1, 2, 4)}
    large = {(64, lr): (4 - math.log2(lr), 4.01 - math.log2(lr)) for lr in (1, 2, 4, 8)}
    assert carried(made(small | large), along="width", name="x").value == pytest.approx(3)


def test_a_seed_that_was_not_run_is_not_one_that_diverged() -> None:
    table = made({
        (16, 1): (2.0, 2.1), (16, 2): (1.0, 1.1, 1.2, 1.3), (16, 4): (2.0, 2.1, 2.2),
        (64, 1): (1.5, 1.6), (64, 2): (1.2, 1.3), (64, 4): (1.1, 1.2, 1.3),
    })  # fmt: skip
    found = carried(table, along="width", name="x")
    assert tuned(table, along="width")["lr"].tolist() == [2, 4]
    assert found.value == pytest.approx(1.25 - 1.2) and found.low is not None and math.isfinite(found.low)
    every = made(
        {key: (1.0, 1.1) if key[1] == 2 else (1.5, 1.6) for key in [(w, lr) for w in (16, 64) for lr in (1, 2)]}
    )
    short = every[~((every["width"] == 16) & (every["lr"] == 2) & (every["seed"] == 1))]
    with pytest.raises(Refused, match="x: at width 16, lr 2: one seed says nothing of its noise"):
        carried(short, along="width", name="x")


def test_what_diverged_with_a_seed_is_no_best_to_lose_beside() -> None:
    # Resamples of seed 0 alone see lr 2 best at the largest, where the other seed diverged.
    table = made({(16, 1): (1.0, 1.0), (16, 2): (2.0, 2.0), (64, 1): (1.0, 1.0), (64, 2): (0.9, None)})
    found = carried(table, along="width", name="x")
    assert (found.value, found.low, found.high) == (0, 0, 0)
    dead = made({(16, 1): (1.0, 1.0), (64, 1): (1.0, None)})
    with pytest.raises(Refused, match="at width 64 no lr ended well with all of its seeds"):
        carried(dead, along="width", name="x")


def test_a_setting_that_diverged_keeps_its_cell() -> None:
    cells = _cells(made({(16, 1): (1.0, 2.0), (16, 2): (1.0, None)}), "width", "lr")
    assert cells["loss_nats"].tolist() == [1.5, math.inf] and cells["n"].tolist() == [2, 2]
    assert cells["sd"].isna().tolist() == [False, True]
