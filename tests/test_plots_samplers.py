"""Samplers held against each other: means over searches, their intervals, a panel a proxy."""

import math

import pandas as pd
import pytest

from scalelab import plots
from scalelab.errors import Refused
from scalelab.plots.samplers import NO_SEARCH
from tests.conftest import ROOT


def results(searches: int = 3) -> pd.DataFrame:
    """Two samplers within two budgets: search s of sampler k has 2 + k + s/10 nats on average over its seeds."""
    rows = [
        {"proxy": "p", "sampler": sampler, "search_seed": search, "full_runs": budget, "trials": 10 * budget,
         "spent": float(budget), "seed": seed, "loss_nats": 2 + k + search / 10 + 0.01 * (seed - 1)}
        for k, sampler in enumerate(("a", "b")) for search in range(searches) for budget in (1, 4) for seed in range(3)
    ]  # fmt: skip
    start = {"proxy": "p", "sampler": NO_SEARCH, "search_seed": 0, "full_runs": 0, "trials": 0, "spent": 0.0}
    rows += [{**start, "seed": seed, "loss_nats": 5.0} for seed in range(3)]
    return pd.DataFrame(rows)


def test_the_interval_is_students_over_searches() -> None:
    rows = plots.sampler_summary(results()).set_index(["sampler", "full_runs"])
    one = rows.loc[("a", 1)]
    assert one["loss_nats"] == pytest.approx(2.1) and one["sd"] == pytest.approx(0.1) and one["searches"] == 3
    assert one["half_width"] == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert one["worst"] == pytest.approx(2.2) and rows.loc[("b", 4)]["trials"] == 40
    assert math.isnan(plots.sampler_summary(results(1)).set_index(["sampler", "full_runs"]).loc[("a", 1)]["half_width"])


def test_a_panel_a_proxy_with_every_search_in_it() -> None:
    drawn = plots.samplers(results())
    (panel,) = drawn.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["a", "b"]
    points = sum(len(line.get_ydata()) for line in panel.lines if line.get_marker() in ("o", "s"))  # type: ignore[arg-type]
    assert points == 2 * 2 * 3
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [  # type: ignore[union-attr]
        "the start's settings, no search", "within 1 full run", "within 4 full runs"
    ]  # fmt: skip


def test_a_table_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="no column full_runs, spent"):
        plots.samplers(results().drop(columns=["full_runs", "spent"]))


def test_the_table_of_the_repository_can_be_drawn() -> None:
    table = pd.read_csv(ROOT / "analysis" / "results" / "search_samplers.csv")
    assert len(plots.samplers(table).axes) == table["proxy"].nunique()
