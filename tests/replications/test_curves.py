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


def noise_alone(rng: np.random.Generator, widths: int, seeds: int, along: float, points: int = 8) -> pd.DataFrame:
    """Curves that differ by noise alone, which a point shares with the one before it by so much."""
    index = pd.MultiIndex.from_product([2 ** np.arange(widths), 2.0 ** -np.arange(200), range(seeds)])
    loss = rng.standard_normal((len(index), points))
    for t in range(1, points):
        loss[:, t] = along * loss[:, t - 1] + math.sqrt(1 - along**2) * loss[:, t]
    curves = pd.DataFrame(3 + 0.01 * loss, columns=[f"train_loss_{t + 1}_of_{points}" for t in range(points)])
    return index.to_frame(index=False, name=["width", "lr", "seed"]).assign(outcome="OK").join(curves)


@pytest.mark.parametrize(("widths", "seeds", "along"), [(4, 2, 0.95), (4, 3, 0.95), (6, 2, 1.0), (4, 3, 0.0)])
def test_curves_that_do_not_differ_are_behind_as_seldom_as_promised(widths: int, seeds: int, along: float) -> None:
    table = noise_alone(np.random.default_rng(4), widths, seeds, along)
    assert larger_behind(table, along="width", name="behind").value <= 0.03


def test_a_pair_is_judged_by_the_seeds_that_are_known() -> None:
    table = runs(gain=0.1, crossing=0.01, seeds=2)
    short = table[~((table["width"] == 64) & (table["lr"] == 0.04) & (table["seed"] == 1))]
    whole, less = (larger_ahead(each, along="width", name="ahead") for each in (table, short))
    assert whole.value == pytest.approx(1 / 3) == less.value
    assert less.low is not None and less.high is not None and less.low <= less.value <= less.high
    assert larger_behind(short, along="width", name="behind").value == pytest.approx(2 / 3)


def test_where_each_diverged_with_another_seed_nothing_is_said() -> None:
    table = runs(gain=0.1, seeds=2)
    at_fast = table["lr"] == 0.04
    lost = at_fast & (((table["width"] == 32) & (table["seed"] == 0)) | ((table["width"] == 64) & (table["seed"] == 1)))
    table.loc[lost, "outcome"] = "DIVERGED"
    table.loc[lost, [f"train_loss_{t}_of_4" for t in (1, 2, 3, 4)]] = np.nan
    found = larger_ahead(table, along="width", name="ahead")
    # 3 rates × 2 pairs: of the fast one 16 → 32 is behind, 32 → 64 says nothing.
    assert found.value == pytest.approx(4 / 5)
    assert larger_behind(table, along="width", name="behind").value == pytest.approx(1 / 5)
