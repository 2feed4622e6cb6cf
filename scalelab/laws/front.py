"""The front of loss against cost: the runs that no cheaper run beats."""

import math

import pandas as pd


def on_front(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the runs that no cheaper or equally dear one beats, from the cheapest.

    >>> on_front(pd.DataFrame({"cost_flops": [1, 1, 2, 4], "loss_nats": [3.0, 2.5, 2.7, 2.0]})).index.tolist()
    [1, 3]
    """
    ordered = runs.sort_values(["cost_flops", "loss_nats"], kind="stable")
    before = ordered["loss_nats"].cummin().shift(fill_value=math.inf)
    return ordered[ordered["loss_nats"] < before]
