"""Searches of loss and cost: what runs their fronts, how low these are, and how two measured numbers differ."""

import math
from collections.abc import Sequence

import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.front import on_front
from scalelab.replications.finding import Finding

LEAST = 3  # runs on a front, to draw a line through


def fronts(runs: pd.DataFrame, *, by: str, cost: tuple[float, float]) -> pd.DataFrame:
    """The runs on each search's front of loss and cost, between two costs in FLOPs.

    Args:
        runs: of several searches; those that diverged are on no front.
        by: the column that tells searches apart.
        cost: the lowest and the highest.

    Raises:
        Refused: where a search has fewer than 3 such runs.
    """
    found = []
    for search, rows in runs[runs["outcome"] == "OK"].groupby(by):
        front = on_front(rows)
        front = front[front["cost_flops"].between(*cost)]
        if len(front) < LEAST:
            raise Refused(
                f"{search}: {len(front)} runs on its front between {cost[0]:.3g} and {cost[1]:.3g} FLOPs; a law needs"
                f" {LEAST}: search longer"
            )
        found.append(front)
    return pd.concat(found)


def lowest(runs: pd.DataFrame, *, by: str, costs: Sequence[float]) -> pd.DataFrame:
    """The lowest loss, in nats, that each search found at each cost or below: a row a search, a column a cost.

    Raises:
        Refused: where a search has no run that cheap.
    """
    fine = runs[runs["outcome"] == "OK"]
    found = pd.DataFrame({
        cost: fine[fine["cost_flops"] <= cost].groupby(by)["loss_nats"].min() for cost in costs
    }).reindex(sorted(runs[by].unique()))  # fmt: skip
    if found.isna().any(axis=None):
        raise Refused(f"a search has no run within {min(costs):.3g} FLOPs: take costs that all of them tried")
    return found


def apart(a: Finding, b: Finding, *, name: str) -> Finding:
    """a − b, of two findings from different runs: the sides of their intervals add in squares.

    Raises:
        Refused: where one of them has no interval.
    """
    if a.low is None or a.high is None or b.low is None or b.high is None:
        raise Refused(f"{name}: a difference needs intervals: {a}; {b}")
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Finding(name=name, value=value, low=low, high=high, unit=a.unit, n=a.n + b.n)
