"""Learning-rate sensitivity: the expectation over a swept range, diverged runs counted as having learned nothing."""

import math

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.laws.sensitivity import lr_sensitivity

INITIAL = 5.5
LRS = 2.0 ** np.arange(-12.0, -3.0)


def runs(width: int, losses: list[float | None], lrs: np.ndarray = LRS, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "width": width,
            "lr": lrs,
            "seed": seed,
            "loss_nats": losses,
            "outcome": ["DIVERGED" if loss is None else "OK" for loss in losses],
        }
    )


def valley(curvature: float, floor: float = 3.0) -> list[float | None]:
    return [floor + curvature * (math.log2(lr) + 8) ** 2 for lr in LRS]


def test_a_flat_loss_has_no_sensitivity() -> None:
    (found,) = lr_sensitivity(runs(64, [3.0] * len(LRS)), initial_loss_nats=INITIAL)
    assert found.nats == 0 and found.best_loss_nats == 3.0
    assert (found.lr_low, found.lr_high, found.lrs, found.diverged) == (LRS[0], LRS[-1], len(LRS), 0)


def test_a_parabola_has_its_mean_over_the_logarithm() -> None:
    # mean of c·u² over u in [−4, 4] is c·16/3; the trapezoid rule at unit steps adds c·h²/6.
    (found,) = lr_sensitivity(runs(64, valley(0.05)), initial_loss_nats=INITIAL)
    assert found.nats == pytest.approx(0.05 * (16 / 3 + 1 / 6))


def test_a_steeper_valley_is_more_sensitive_in_the_order_of_the_sizes() -> None:
    table = pd.concat([runs(256, valley(0.1)), runs(64, valley(0.05))])
    small, large = lr_sensitivity(table, initial_loss_nats=INITIAL)
    assert (small.scale, large.scale) == ({"width": 64}, {"width": 256})
    assert large.nats == pytest.approx(2 * small.nats)


def test_a_diverged_run_counts_as_one_that_learned_nothing() -> None:
    losses: list[float | None] = [3.0] * (len(LRS) - 1) + [None]
    (found,) = lr_sensitivity(runs(64, losses), initial_loss_nats=INITIAL)
    assert found.diverged == 1
    assert found.nats == pytest.approx((INITIAL - 3.0) / 2 / 8)  # half an interval of eight
    worse: list[float | None] = [3.0] * (len(LRS) - 1) + [9.0]  # ended above where it began: no worse than that
    assert lr_sensitivity(runs(64, worse), initial_loss_nats=INITIAL)[0].nats == pytest.approx(found.nats)
    as_nan: list[float | None] = [3.0] * (len(LRS) - 1) + [math.nan]
    assert lr_sensitivity(runs(64, as_nan), initial_loss_nats=INITIAL)[0].nats == pytest.approx(found.nats)


def test_seeds_are_averaged_first_and_failed_runs_are_no_data() -> None:
    table = pd.concat([runs(64, valley(0.05)), runs(64, valley(0.05, floor=3.2), seed=1)])
    lost = table.assign(outcome="FAILED", loss_nats=math.nan)
    (found,) = lr_sensitivity(pd.concat([table, lost]), initial_loss_nats=INITIAL)
    assert found.best_loss_nats == pytest.approx(3.1)
    assert found.nats == pytest.approx(0.05 * (16 / 3 + 1 / 6))


def test_it_does_not_depend_on_the_order_of_rows() -> None:
    table = runs(64, valley(0.05))
    assert lr_sensitivity(table, initial_loss_nats=INITIAL) == lr_sensitivity(table[::-1], initial_loss_nats=INITIAL)


def test_ranges_must_be_one() -> None:
    table = pd.concat([runs(64, valley(0.05)), runs(256, valley(0.05)[2:], LRS[2:])])
    with pytest.raises(Refused, match="swept over different ranges"):
        lr_sensitivity(table, initial_loss_nats=INITIAL)
    small, large = lr_sensitivity(table, initial_loss_nats=INITIAL, lr_low=float(LRS[2]))
    assert small.nats == large.nats


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (runs(64, valley(0.05)).drop(columns="outcome"), "needs the column outcome"),
        (runs(64, [3.0], LRS[:1]), "width 64: sensitivity needs two learning rates"),
        (runs(64, [None] * len(LRS)), "no run ended below initial_loss_nats=5.5"),
    ],
)
def test_bad_input_is_refused(table: pd.DataFrame, said: str) -> None:
    with pytest.raises(Refused, match=said):
        lr_sensitivity(table, initial_loss_nats=INITIAL)
