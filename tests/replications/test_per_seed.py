"""One number a seed: exact on made tables, and honest where there is nothing to say."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scalelab.errors import Refused
from scalelab.replications import crossing, distances, over_seeds, powers, vertices


def test_a_mean_over_seeds_has_the_t_interval() -> None:
    found = over_seeds(pd.Series([1.0, 2.0, 4.0]), name="x", n=9, unit="nats")
    low, high = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1.0, 2.0, 4.0]))
    assert (found.value, found.low, found.high) == pytest.approx((7 / 3, low, high))
    assert (found.n, found.unit) == (9, "nats")


def test_ratios_are_meant_in_logs_and_without_spread_the_interval_is_a_point() -> None:
    found = over_seeds(pd.Series([2.0, 8.0]), name="x", n=2, ratio=True)
    assert found.value == pytest.approx(4.0) and found.low < 4.0 < found.high  # type: ignore[operator]
    assert over_seeds(pd.Series([3.0, 3.0]), name="x", n=2).low == 3.0


@pytest.mark.parametrize("values", [[1.0], [1.0, np.inf], [1.0, np.nan]])
def test_too_few_or_not_finite(values: list[float]) -> None:
    with pytest.raises(Refused, match="x: a mean over seeds needs 2 or more, all finite"):
        over_seeds(pd.Series(values), name="x", n=2)
    with pytest.raises(Refused, match="positive"):
        over_seeds(pd.Series([1.0, -1.0]), name="x", n=2, ratio=True)


def test_powers_are_those_of_power_laws() -> None:
    rows = [
        {"seed": seed, "policy": policy, "width": width, "top": 3 * width**power}
        for seed in range(2)
        for policy, power in (("a", 0.25), ("b", -0.5 - seed))
        for width in (32, 64, 128)
    ]
    found = powers(pd.DataFrame(rows), of="top", along="width", by=["policy", "seed"])
    assert found.to_dict() == pytest.approx({("a", 0): 0.25, ("a", 1): 0.25, ("b", 0): -0.5, ("b", 1): -1.5})


def test_a_level_line_crosses_nowhere() -> None:
    assert crossing([0, 0.5, 1], [0.3, 0.05, -0.2]) == pytest.approx(0.6)
    assert crossing([0, 1], [0.0, 0.0]) == np.inf
    assert crossing([1, 2, 3], [0.1, 0.1, 0.1]) == np.inf  # level but for rounding
    assert crossing([0, 1], [1.0, 1.0 - 1e-6]) == pytest.approx(1e6)


def valley(best: float, values: list[float], seed: int = 0) -> pd.DataFrame:
    losses = [2.0 + 0.1 * np.log(value / best) ** 2 for value in values]
    return pd.DataFrame({"weight_decay": values, "loss_nats": losses, "seed": seed, "outcome": "OK"})


def test_the_vertex_of_a_parabola_is_found_between_the_points() -> None:
    runs = pd.concat([valley(0.3, [0.125, 0.25, 0.5, 1.0]), valley(0.7, [0.125, 0.25, 0.5, 1.0], seed=1)])
    assert vertices(runs, over="weight_decay", by=["seed"]).to_list() == pytest.approx([0.3, 0.7])


def test_an_optimum_at_the_end_of_the_grid_is_refused() -> None:
    with pytest.raises(Refused, match=r"weight_decay: the best, 0.125, is at the end of the grid"):
        vertices(valley(0.05, [0.125, 0.25, 0.5]), over="weight_decay", by=["seed"])


def test_distances_of_curves_are_of_the_pairs_that_were_asked_for() -> None:
    # Curves depend on lr·decay alone: those of one product coincide, those of one lr do not.
    rows = [
        {"seed": seed, "lr": lr, "product": product, "loss_1": product + seed, "loss_2": 2 * product}
        for seed in range(2)
        for lr in (1.0, 2.0)
        for product in (3.0, 4.0)
    ]
    runs = pd.DataFrame(rows)
    assert distances(runs, ["loss_1", "loss_2"], same="product", other="lr").to_list() == [0.0, 0.0]
    assert distances(runs, ["loss_1", "loss_2"], same="lr", other="product").to_list() == [1.5, 1.5]
    with pytest.raises(Refused, match="no two runs of seed 0 have the same lr and another lr"):
        distances(runs, ["loss_1"], same="lr", other="lr")


def test_a_value_at_which_a_run_diverged_is_not_the_best() -> None:
    values = [0.125, 0.25, 0.5, 1.0, 2.0]
    runs = pd.concat([valley(0.3, values), valley(0.3, values, seed=1)])

    def diverged(value: float, seeds: int = 1) -> pd.DataFrame:
        lost = (runs["weight_decay"] == value) & (runs["seed"] < seeds)
        outcome = np.where(lost, "DIVERGED", "OK")
        return runs.assign(policy="a", outcome=outcome, loss_nats=runs["loss_nats"].mask(lost))

    kept = vertices(diverged(2.0), over="weight_decay", by=["policy"])
    assert kept.to_list() == pytest.approx([0.3])
    with pytest.raises(Refused, match=r"a run diverged beside the best, 0.25, at \('a',\): a parabola needs both"):
        vertices(diverged(0.5), over="weight_decay", by=["policy"])
    with pytest.raises(Refused, match=r"a run diverged beside the best, 0.5, at"):
        vertices(diverged(0.25), over="weight_decay", by=["policy"])  # though one seed alone is best there
    with pytest.raises(Refused, match="no value ended well"):
        vertices(runs.assign(outcome="DIVERGED"), over="weight_decay", by=["seed"])
