"""Rank correlations on losses whose order is known."""

import math

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.replications import ranking

RECIPES = "abcdefgh"
LRS = (0.001, 0.01, 0.1)


def runs(order: dict[float, list[int]], *, seeds: int = 3, noise: float = 0.0) -> pd.DataFrame:
    """At each learning rate the place of every recipe, as its loss."""
    rng = np.random.default_rng(3)
    return pd.DataFrame([
        {"recipe": recipe, "lr": lr, "seed": seed, "outcome": "OK",
         "loss_nats": 2 + 0.1 * place + noise * rng.standard_normal()}
        for lr, places in order.items() for recipe, place in zip(RECIPES, places, strict=True) for seed in range(seeds)
    ])  # fmt: skip


UP, DOWN = list(range(8)), list(range(8))[::-1]
TARGET = runs({0.02: UP, 0.04: [place + 1 for place in UP]}, seeds=2)


def test_the_same_order_is_one_and_the_reverse_minus_one() -> None:
    found = ranking(runs({0.001: UP, 0.1: DOWN}), TARGET, of="recipe")
    assert found.at(0.001, name="tiny").value == pytest.approx(1)
    assert found.at(0.1, name="usual").value == pytest.approx(-1)
    difference = found.difference(0.001, 0.1, name="tiny − usual")
    assert difference.value == pytest.approx(2) and difference.above(1.9) and difference.n == 8 * 2 * 3 + 8 * 2 * 2
    assert found.table()["setting"].tolist() == [0.001, 0.1]


def test_what_is_tuned_counts_at_its_best_setting() -> None:
    worse_elsewhere = pd.concat([TARGET, runs({0.4: [place + 20 for place in DOWN]}, seeds=2)])
    assert ranking(runs({0.01: UP}), worse_elsewhere, of="recipe").at(0.01, name="").value == pytest.approx(1)


def test_what_is_tuned_may_be_tried_elsewhere_for_some() -> None:
    wider = pd.concat([TARGET, runs({0.08: [place - 0.5 for place in UP]}, seeds=2)[:6]])
    assert ranking(runs({0.01: UP}), wider, of="recipe").at(0.01, name="").value == pytest.approx(1)
    with pytest.raises(Refused, match="a run is missing"):
        ranking(runs({0.01: UP}), wider[:-1], of="recipe")


def test_noise_widens_the_interval_and_lowers_the_correlation() -> None:
    clear, loud = (ranking(runs({0.01: UP}, noise=sd), TARGET, of="recipe").at(0.01, name="") for sd in (0.001, 0.5))
    assert clear.within(1.01) and clear.above(0.99)
    assert loud.value < clear.value and loud.low is not None and loud.high is not None and loud.high - loud.low > 0.1


def test_a_recipe_that_diverged_ranks_last() -> None:
    small = runs({0.1: UP})
    small.loc[small["recipe"] == "h", ["outcome", "loss_nats"]] = ["DIVERGED", math.nan]
    assert ranking(small, TARGET, of="recipe").at(0.1, name="").value == pytest.approx(1)
    with pytest.raises(Refused, match="no correlation of losses; try kind='spearman'"):
        ranking(small, TARGET, of="recipe", kind="pearson")


def test_the_correlation_of_losses_sees_how_far_apart_they_are() -> None:
    far = runs({0.01: [0, 1, 2, 3, 4, 5, 6, 100]})
    ranks, losses = (ranking(far, TARGET, of="recipe", kind=kind).at(0.01, name="") for kind in ("spearman", "pearson"))
    assert ranks.value == pytest.approx(1) and 0.5 < losses.value < 0.8


@pytest.mark.parametrize(
    ("small", "large", "said"),
    [
        (runs({0.01: UP}, seeds=1), TARGET, "one seed"),
        (runs({0.01: UP})[1:], TARGET, "a run is missing"),
        (runs({0.01: UP}), TARGET[TARGET["recipe"] != "a"], "give the same"),
    ],
)
def test_what_cannot_be_compared_is_refused(small: pd.DataFrame, large: pd.DataFrame, said: str) -> None:
    with pytest.raises(Refused, match=said):
        ranking(small, large, of="recipe")


def test_a_setting_that_was_not_run_is_refused() -> None:
    with pytest.raises(Refused, match="nothing was run at"):
        ranking(runs({0.01: UP}), TARGET, of="recipe").at(0.5, name="")


def test_things_that_are_numbered_are_named_too() -> None:
    numbered = runs({0.01: UP}).assign(recipe=lambda each: each["recipe"].map(RECIPES.index))
    with pytest.raises(Refused, match="small runs are of 0, 1, 2, 3, 4, 5, 6, 7 and large ones of 1, 2"):
        ranking(numbered, numbered[numbered["recipe"] > 0], of="recipe")
