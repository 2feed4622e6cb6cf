"""The front of loss against cost: what no cheaper run beats, also of many runs, which are thinned and said to be."""

import numpy as np
import pandas as pd
import pytest

from scalelab import plots
from scalelab.errors import Refused
from scalelab.laws import study
from scalelab.plots.front import MOST_POINTS, on_front, thin
from tests.laws.sweeps import sweep


def test_the_front_has_what_no_cheaper_run_beats() -> None:
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({"cost_flops": rng.integers(1, 30, 200), "loss_nats": rng.normal(size=200)})
    front = on_front(runs)
    for _, run in front.iterrows():
        cheaper = runs[runs["cost_flops"] <= run["cost_flops"]]
        assert cheaper["loss_nats"].min() == run["loss_nats"]
    assert (np.diff(front["cost_flops"]) > 0).all() and (np.diff(front["loss_nats"]) < 0).all()
    assert front["loss_nats"].min() == runs["loss_nats"].min()


def test_many_runs_are_thinned_but_for_the_front() -> None:
    rng = np.random.default_rng(1)
    runs = pd.DataFrame({"cost_flops": rng.uniform(1, 2, 9000), "loss_nats": rng.normal(size=9000)})
    kept = thin(runs)
    assert len(kept) <= MOST_POINTS + len(on_front(runs)) and set(on_front(runs).index) <= set(kept.index)
    assert thin(runs[:100]).equals(runs[:100])


def test_a_group_is_a_kind_and_what_is_not_shown_is_said() -> None:
    runs = sweep(np.random.default_rng(0), seeds=1)
    runs = runs.assign(cost_flops=6.0 * runs["width"] ** 2)
    runs.loc[0, "loss_nats"] = 99.0
    laws = study(runs, draws=100)
    (axis,) = plots.front(laws, runs).axes
    assert axis.get_title().endswith("runs lie above") and axis.get_ylim()[1] < 99
    (dots,) = axis.collections
    assert len(np.asarray(dots.get_offsets())) == (runs["outcome"] == "OK").sum()
    with pytest.raises(Refused, match="no cost_flops"):
        plots.front(laws, runs.drop(columns="cost_flops"))
