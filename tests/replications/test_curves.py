"""Whether the larger one is ahead, on curves of which that is known."""

import math

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.replications import larger_ahead, larger_behind, training
from scalelab.replications.curves import points_of

POINTS = 4


def runs(gain: float, noise: float = 0.0, seeds: int = 3, crossing: float = math.inf) -> pd.DataFrame:
    """Curves that fall; a doubling of width gains so much, or loses it at rates above `crossing`."""
    rng = np.random.default_rng(0)
    rows = []
    for lr in (0.01, 0.02, 0.04):
        for octave, width in enumerate((16, 32, 64)):
            for seed in range(seeds):
                sign = 1 if lr <= crossing else -1
                curve = [4 - 0.5 * t - sign * gain * octave + noise * rng.standard_normal() for t in range(POINTS)]
                rows.append({"width": width, "lr": lr, "seed": seed, "outcome": "OK", "loss_nats": curve[-1]}
                            | {f"train_loss_{t + 1}_of_{POINTS}": each for t, each in enumerate(curve)})  # fmt: skip
    return pd.DataFrame(rows)


def test_wider_ahead_everywhere_is_all_of_the_curves_with_an_interval_that_knows_how_many() -> None:
    found = larger_ahead(runs(gain=0.1), along="width", name="ahead")
    assert found.value == 1 and found.high == 1
    assert found.low == pytest.approx(0.025 ** (1 / 6))  # 3 rates × 2 pairs
    assert larger_behind(runs(gain=0.1), along="width", name="behind").value == 0


def test_curves_that_cross_at_one_rate_count_as_behind_there() -> None:
    table = runs(gain=0.1, crossing=0.02)
    found = larger_ahead(table, along="width", name="ahead")
    assert found.value == pytest.approx(2 / 3)
    assert found.low is not None and found.high is not None and found.low < 2 / 3 < found.high
    assert larger_behind(table, along="width", name="behind").value == pytest.approx(1 / 3)


def test_noise_alone_is_half_ahead_and_seldom_behind_beyond_noise() -> None:
    table = runs(gain=0.0, noise=0.1, seeds=8)
    found = larger_ahead(table, along="width", name="ahead")
    assert found.low is not None and found.high is not None and found.low < 0.5 < found.high
    assert larger_behind(table, along="width", name="behind").value <= 0.15


def test_a_run_that_diverged_is_behind_from_then_on() -> None:
    table = runs(gain=0.1)
    lost = (table["width"] == 64) & (table["lr"] == 0.04)
    table.loc[lost, "outcome"] = "DIVERGED"
    table.loc[lost, ["train_loss_3_of_4", "train_loss_4_of_4"]] = np.nan
    assert larger_ahead(table, along="width", name="ahead").value == pytest.approx(1 - 2 / 24)
    assert larger_behind(table, along="width", name="behind").value == pytest.approx(2 / 24)
    both = table["lr"] == 0.04
    table.loc[both, "outcome"] = "DIVERGED"
    table.loc[both, ["train_loss_3_of_4", "train_loss_4_of_4"]] = np.nan
    assert larger_ahead(table, along="width", name="ahead").value == 1  # what had diverged on both sides says nothing


def test_mean_curves_stand_side_by_side_and_end_where_a_run_diverged() -> None:
    table = runs(gain=0.1)
    curves = training(table[table["lr"] == 0.01], along="width")
    assert list(curves) == ["width 16", "width 32", "width 64"]
    assert list(curves.index) == [0.1875, 0.4375, 0.6875, 0.9375]
    np.testing.assert_allclose(curves["width 32"], [3.9, 3.4, 2.9, 2.4])
    table.loc[0, "train_loss_4_of_4"] = np.nan
    assert training(table, along="width")["width 16"].isna().tolist() == [False, False, False, True]


def test_the_points_are_in_the_order_of_training() -> None:
    names = [f"train_loss_{place}_of_10" for place in (10, 2, 1)]
    assert points_of(pd.DataFrame(columns=[*names, "train_loss_nats"])) == [names[2], names[1], names[0]]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (runs(gain=0.1).drop(columns=[f"train_loss_{t}_of_{POINTS}" for t in range(1, POINTS + 1)]), "--curve 8"),
        (runs(gain=0.1, seeds=1), "2 or more seeds"),
        (runs(gain=0.1).query("width == 16"), "2 or more of width"),
        (runs(gain=0.1).query("(width == 16) == (lr == 0.01)").query("width < 64"), "no two neighbours"),
    ],
)
def test_what_cannot_be_compared_is_refused(table: pd.DataFrame, words: str) -> None:
    with pytest.raises(Refused, match=words):
        larger_ahead(table, along="width", name="ahead")
