"""What one kind of run loses beside another, where that is known."""

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.replications.excess import excess_by_seed


def runs(worse: float, shift: int = 0, seeds: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    """A valley about lr 2^(-5 + shift), its bottom higher by `worse` a doubling of width; seeds differ by 0.01."""
    rows = [
        {"width": width, "lr": 2.0**lr, "seed": seed, "outcome": "OK",
         "loss_nats": 2 + worse * np.log2(width / 16) + 0.1 * (lr + 5 - shift) ** 2 + 0.01 * seed}
        for width in (16, 32, 64) for lr in range(-8, -2) for seed in seeds
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_each_is_taken_at_its_own_best_and_what_seeds_share_cancels() -> None:
    found = excess_by_seed(runs(0.05, shift=1), runs(0.0), along="width")
    assert found.index.tolist() == [16, 32, 64] and list(found.columns.to_numpy()) == [0, 1, 2]
    assert np.allclose(found, [[0.0], [0.05], [0.1]])


def test_seeds_that_one_lacks_are_left_out() -> None:
    found = excess_by_seed(runs(0.05), runs(0.0, seeds=(1, 2, 3)), along="width")
    assert list(found.columns.to_numpy()) == [1, 2]
    with pytest.raises(Refused, match="no width and seed that both"):
        excess_by_seed(runs(0.0, seeds=(0,)), runs(0.0, seeds=(1,)), along="width")


def test_a_run_that_diverged_is_infinitely_worse_and_of_two_there_is_no_difference() -> None:
    def dead(table: pd.DataFrame) -> pd.DataFrame:
        lost = (table["width"] == 32) & (table["seed"] == 0)
        return table.assign(outcome=np.where(lost, "DIVERGED", "OK"), loss_nats=table["loss_nats"].mask(lost))

    one = excess_by_seed(dead(runs(0.05)), runs(0.0), along="width")
    assert np.isinf(one.loc[32, 0]) and list(one.columns.to_numpy()) == [0, 1, 2]
    with pytest.raises(Refused, match="both diverged at width 32 with seed 0"):
        excess_by_seed(dead(runs(0.05)), dead(runs(0.0)), along="width")
    found = excess_by_seed(dead(runs(0.05)), dead(runs(0.0, seeds=(1, 2))), along="width")
    assert list(found.columns.to_numpy()) == [1, 2], "what one was not run with asks for no difference"
