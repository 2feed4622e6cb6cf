"""The independent search on losses whose best setting and interactions are known."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.replications.effects import selected
from scalelab.replications.independent import (
    errors_apart,
    finalists,
    independent,
    line,
    transfer_errors,
)

OTHERS = ("hparams.a", "hparams.b")
Loss = Callable[[float, float, float], float]


def separable(lr: float, a: float, b: float) -> float:
    """Octaves from the best of each: lr ¼, a 2, b 1."""
    return 2 + 0.1 * (lr + 2) ** 2 + 0.1 * (a - 1) ** 2 + 0.1 * b**2


def coupled(lr: float, a: float, b: float) -> float:
    """What counts is lr·a and b."""
    return 2 + 0.1 * (lr + a + 2) ** 2 + 0.01 * lr**2 + 0.1 * b**2


def runs(loss: Loss, *, lrs: range = range(-4, 1)) -> pd.DataFrame:
    """A mesh of each with the learning rate, the other at 1; two seeds."""
    octaves = [(lr, a, 0) for lr in lrs for a in (-1, 0, 1, 2)] + [(lr, 0, b) for lr in lrs for b in (-1, 1)]
    rows = [
        {"lr": 2.0**lr, "hparams.a": 2.0**a, "hparams.b": 2.0**b, "seed": seed, "outcome": "OK",
         "loss_nats": loss(lr, a, b) + 0.001 * seed}
        for lr, a, b in octaves for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_phases_choose_the_best_of_each_line() -> None:
    assert independent(runs(separable), OTHERS) == {"lr": 0.25, "hparams.a": 2.0, "hparams.b": 1.0}
    assert line(runs(separable), "hparams.a", OTHERS, 0.25).round(4).to_dict() == {
        0.5: 2.4005, 1.0: 2.1005, 2.0: 2.0005, 4.0: 2.1005
    }  # fmt: skip


def test_a_run_that_diverged_is_not_chosen() -> None:
    table = runs(separable)
    dead = (table["hparams.a"] == 2) & (table["seed"] == 1)
    table["outcome"], table["loss_nats"] = table["outcome"].mask(dead, "DIVERGED"), table["loss_nats"].mask(dead)
    assert independent(table, OTHERS)["hparams.a"] in (1.0, 4.0)


def test_finalists_are_the_two_phases_and_the_best_trials() -> None:
    trials = pd.DataFrame({
        "lr": [0.1, 0.2, 0.3], "hparams.a": [1.5, 2.5, 3.5], "hparams.b": [1.0, 0.5, 2.0],
        "loss_nats": [2.3, 2.1, 2.2], "outcome": ["OK", "OK", "DIVERGED"],
    })  # fmt: skip
    found = finalists(runs(separable), trials, OTHERS)
    assert found == {
        "lr_only": {"lr": 0.25, "hparams.a": 1.0, "hparams.b": 1.0},
        "combined": {"lr": 0.25, "hparams.a": 2.0, "hparams.b": 1.0},
        "random_1": {"lr": 0.2, "hparams.a": 2.5, "hparams.b": 0.5},
        "random_2": {"lr": 0.1, "hparams.a": 1.5, "hparams.b": 1.0},
    }
    assert len(selected(runs(separable), found["combined"])) == 2


def test_no_error_of_transfer_where_nothing_interacts_and_the_right_one_where_it_does() -> None:
    independent_of = transfer_errors(runs(separable), OTHERS)
    assert len(independent_of) == 4 and np.allclose(independent_of["nats"], 0)
    errors = transfer_errors(runs(coupled), OTHERS).set_index(["fixed", "transfer"])["nats"]
    # The best is a = ½ with lr = ½. At a = 1, 2, 4 the best lr is ¼, ⅛, 1/16; at a = ½ these lose as much:
    lost = [0.1 * (lr - 1 + 2) ** 2 + 0.01 * lr**2 - 0.01 for lr in (-2, -3, -4)]
    assert errors["hparams.a", "lr"] == pytest.approx(sum(lost) / 3)
    assert errors["hparams.b", "lr"] == pytest.approx(0, abs=1e-9)


def test_the_difference_of_two_tables_has_its_interval_over_pairs() -> None:
    apart = pd.DataFrame({"fixed": ["a", "lr", "b", "lr"], "transfer": ["lr", "a", "lr", "b"]})
    much, little = apart.assign(nats=[0.3, 0.1, 0.25, 0.19]), apart.assign(nats=[0.01, 0.0, 0.0, 0.02])
    found = errors_apart(much, little, name="more", n=8)
    assert found.value == pytest.approx(0.21 - 0.0075) and found.above(0.1)
    assert not errors_apart(little, little, name="none", n=8).above(0.0)


def test_what_was_not_run_is_refused() -> None:
    with pytest.raises(Refused, match="no run has lr=3"):
        selected(runs(separable), {"lr": 3.0})
    table = runs(separable)
    one = table[(table["hparams.a"] == 1) | (table["lr"] == 0.25)]
    with pytest.raises(Refused, match=r"hparams\.a: no mesh of it and lr, 4 values at 1 learning rates"):
        transfer_errors(one, OTHERS)


@pytest.mark.parametrize(("column", "said"), [("hparams.a", r"hparams\.a 4"), ("lr", "lr 1")])
def test_a_value_that_always_diverged_has_nothing_to_take_along(column: str, said: str) -> None:
    table = runs(separable)
    dead = (table[column] == table[column].max()) & (table["hparams.b"] == 1)
    table["outcome"], table["loss_nats"] = table["outcome"].mask(dead, "DIVERGED"), table["loss_nats"].mask(dead)
    with pytest.raises(Refused, match=rf"hparams\.a and lr: {said} diverged with all of the other's: leave it out"):
        transfer_errors(table, OTHERS)
