"""Fronts of searches, a grid of budgets, and differences of findings, where the truth is known."""

import math

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.replications import Finding, apart, compute_optimal, fronts, lowest, optimal_lr, powers, tuned_losses

COST = (1e9, 1e11)


def search(name: str, *, exponent: float, seed: int) -> pd.DataFrame:
    """Front runs whose lr goes as C^exponent, among others that are worse and diverged ones that look good."""
    rng = np.random.default_rng(seed)
    cost = np.geomspace(1e8, 1e11, 40)
    front = pd.DataFrame({"cost_flops": cost, "loss_nats": 10 * cost**-0.05, "lr": 0.1 * (cost / 1e9) ** exponent})
    others = front.assign(loss_nats=front["loss_nats"] + 0.5, lr=rng.uniform(0.001, 1, len(cost)))
    dead = front.assign(loss_nats=0.1, lr=1.0)
    table = pd.concat([front.assign(outcome="OK"), others.assign(outcome="OK"), dead.assign(outcome="DIVERGED")])
    return table.assign(part=name)


def test_the_exponent_along_a_front_is_that_of_its_runs_alone() -> None:
    runs = pd.concat([search("a", exponent=-0.3, seed=0), search("b", exponent=-0.5, seed=1)])
    kept = fronts(runs, by="part", cost=COST)
    assert kept["cost_flops"].min() >= COST[0] and (kept["outcome"] == "OK").all()
    found = powers(kept, of="lr", along="cost_flops", by=["part"])
    assert found.to_dict() == {"a": pytest.approx(-0.3), "b": pytest.approx(-0.5)}


def test_a_front_without_runs_in_reach_is_refused() -> None:
    with pytest.raises(Refused, match="a: 0 runs on its front"):
        fronts(search("a", exponent=0, seed=0), by="part", cost=(1e13, 1e14))


def test_the_lowest_loss_within_a_cost() -> None:
    found = lowest(search("a", exponent=0, seed=0), by="part", costs=(1e9, 1e11))
    assert found.loc["a", 1e11] == pytest.approx(10 * 1e11**-0.05)
    assert found.loc["a", 1e9] >= 10 * 1e9**-0.05
    with pytest.raises(Refused, match="no run within"):
        lowest(search("a", exponent=0, seed=0), by="part", costs=(1e5,))


def test_intervals_of_a_difference_add_in_squares() -> None:
    a = Finding(name="a", value=2.0, low=1.7, high=2.3, n=3)
    b = Finding(name="b", value=1.0, low=0.6, high=1.4, n=4)
    found = apart(a, b, name="a − b")
    assert (found.value, found.low, found.high, found.n) == (1.0, pytest.approx(0.5), pytest.approx(1.5), 7)
    with pytest.raises(Refused, match="intervals"):
        apart(a, Finding(name="b", value=1.0, n=1), name="a − b")


def grid(*, lr_exponents: tuple[float, float] = (-0.5, -0.25), noise: float = 0.002) -> pd.DataFrame:
    """Chinchilla's losses with α = β, so that N* and D* ∝ C^½, and a valley about lr = 0.1 N^p D^q."""
    rng = np.random.default_rng(5)
    p, q = lr_exponents
    rows = []
    for budget in (1e9, 4e9, 1.6e10, 6.4e10):
        for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
            params = factor * math.sqrt(budget / 120)
            tokens = budget / (6 * params)
            best = 0.1 * (params / 1e4) ** p * (tokens / 1e5) ** q
            rows += [
                {"parametrization": "sp", "optimizer": "adamw", "data": "embedded", "params_non_embedding": params,
                 "tokens": tokens, "batch_tokens": 128, "cost_flops": budget, "lr": 2.0**log2_lr, "seed": seed,
                 "outcome": "OK", "loss_nats": 1.5 + 8 / params**0.3 + 12 / tokens**0.3
                 + 0.05 * (log2_lr - math.log2(best)) ** 2 + noise * rng.standard_normal()}
                for log2_lr in range(round(math.log2(best)) - 3, round(math.log2(best)) + 4) for seed in (0, 1)
            ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_grid_gives_its_exponents_of_size_tokens_and_learning_rate() -> None:
    runs = grid()
    cells = tuned_losses(runs)
    truth = 1.5 + 8 / cells["params_non_embedding"] ** 0.3 + 12 / cells["tokens"] ** 0.3
    assert len(cells) == 20 and (cells["loss_nats"] - truth).abs().max() < 0.01
    found = compute_optimal(runs)
    assert found.params_exponent.contains(0.5) and found.tokens_exponent.contains(0.5)
    lr = optimal_lr(runs, found, name="lr")
    assert lr.low is not None and lr.high is not None
    assert lr.low <= -0.5 * 0.5 - 0.25 * 0.5 <= lr.high and lr.high - lr.low < 0.2


def test_runs_of_two_batches_are_no_one_grid() -> None:
    runs = grid()
    runs.loc[runs.index[:10], "batch_tokens"] = 256
    with pytest.raises(Refused, match="2 groups"):
        tuned_losses(runs)
