"""Samplers held against each other: what each one's searches recommended, trained at full scale on unseen seeds.

A row of results is a run of a recommended setting: `proxy`, `sampler`, `search_seed`, `full_runs` (the budget, in runs
at full scale), `trials`, `spent` (in the same), `seed`, `loss_nats`. The sampler "start" is the start's own setting.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from scalelab.errors import Refused
from scalelab.laws.draw.style import distinct, figure, plain

NO_SEARCH = "start"  # its settings at full scale
COLUMNS = ("proxy", "sampler", "search_seed", "full_runs", "trials", "spent", "seed", "loss_nats")


def sampler_summary(results: pd.DataFrame) -> pd.DataFrame:
    """A row a proxy, budget and sampler: the mean over searches of their winners' mean loss in nats.

    `half_width` is half of the mean's 95 % interval by Student's t over searches, NaN with one; `worst` and `sd` are
    over searches.

    Raises:
        Refused: where a column is missing.
    """
    _check(results)
    searches = results.groupby(["proxy", "sampler", "full_runs", "search_seed"], sort=False)
    each = searches.agg(
        loss_nats=("loss_nats", "mean"), trials=("trials", "first"), spent=("spent", "first")
    ).reset_index()
    rows = each.groupby(["proxy", "full_runs", "sampler"], sort=False).agg(
        trials=("trials", "mean"), spent=("spent", "mean"), loss_nats=("loss_nats", "mean"), worst=("loss_nats", "max"),
        sd=("loss_nats", "std"), searches=("loss_nats", "size"),
    )  # fmt: skip
    rows["half_width"] = stats.t.ppf(0.975, rows["searches"] - 1) * rows["sd"] / np.sqrt(rows["searches"])
    return rows.reset_index()


def samplers(results: pd.DataFrame) -> Figure:
    """A panel a proxy: dots are searches, bars the 95 % interval of their mean, the line the start at full scale.

    Raises:
        Refused: where a column is missing.
    """
    rows = sampler_summary(results)
    names = [name for name in dict.fromkeys(results["sampler"]) if name != NO_SEARCH]
    proxies = list(dict.fromkeys(results["proxy"]))
    budgets = sorted({budget for budget in results["full_runs"] if budget})
    drawn, panels = figure(len(proxies), width=5.0, height=3.8)
    for panel, proxy in zip(panels, proxies, strict=True):
        here = results[results["proxy"] == proxy]
        start = here[here["sampler"] == NO_SEARCH]["loss_nats"]
        if len(start):
            panel.axhspan(start.min(), start.max(), color="0.9")
            panel.axhline(start.mean(), color="0.5", label="the start's settings, no search")
        for place, budget in enumerate(budgets):
            at = rows[(rows["proxy"] == proxy) & (rows["full_runs"] == budget)].set_index("sampler").reindex(names)
            x = np.arange(len(names)) + 0.25 * (place - (len(budgets) - 1) / 2)
            colour, marker, _ = distinct(place)
            said = f"within {budget:g} full run{'' if budget == 1 else 's'}"
            panel.errorbar(x, at["loss_nats"], at["half_width"], fmt="_", color=colour, label=said)
            for where, sampler in zip(x, names, strict=True):
                chosen = here[(here["sampler"] == sampler) & (here["full_runs"] == budget)]
                means = chosen.groupby("search_seed")["loss_nats"].mean()
                panel.plot([where] * len(means), means, marker, ms=3, color=colour)
        panel.set_xticks(range(len(names)), [plain(name) for name in names])
        panel.set(title=plain(str(proxy)))
    panels[0].set_ylabel("validation loss of what was recommended (nats)")
    panels[-1].legend(fontsize=7, frameon=False)
    return drawn


def _check(results: pd.DataFrame) -> None:
    if missing := [name for name in COLUMNS if name not in results]:
        raise Refused(f"no column {', '.join(missing)}: accepted is a table of analysis/search_samplers.py")
