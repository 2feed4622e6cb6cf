# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which search finds a good setting for the same compute?
#
# Every sampler searches learning rate, weight decay, batch, width and tokens of real proxies, and stops before it
# would pass its budget, which is counted in runs at full scale. What it then recommends is trained at full scale on
# seeds that no search has seen. These are many runs, so their results are kept:
#
#     python analysis/search_samplers.py    # writes results/search_samplers.csv

# %%
# %matplotlib inline
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots
from scalelab.plots.samplers import NO_SEARCH

HERE = Path("analysis") if Path("analysis").is_dir() else Path()
results = pd.read_csv(HERE / "results" / "search_samplers.csv")
summary = plots.sampler_summary(results)
summary.round(4)

# %% [markdown]
# Dots are searches, bars the 95 % interval of their mean; the grey line is the start's own setting, trained at full
# scale without any search.

# %%
plots.samplers(results)

# %% [markdown]
# **What one sees.** The mean over searches, with the interval: where intervals overlap, these few searches do not
# tell two samplers apart.

# %%
for (proxy, budget), rows in summary[summary["sampler"] != NO_SEARCH].groupby(["proxy", "full_runs"], sort=False):
    ranked = rows.sort_values("loss_nats")
    first, last = ranked.iloc[0], ranked.iloc[-1]
    start = summary[(summary["proxy"] == proxy) & (summary["sampler"] == NO_SEARCH)]["loss_nats"].iloc[0]
    reach = ranked[ranked["loss_nats"] - ranked["half_width"] <= first["loss_nats"] + first["half_width"]]["sampler"]
    alike = ", ".join(name for name in reach if name != first["sampler"]) or "none"
    display(
        Markdown(
            f"**{proxy}, within {budget:g} full run{'' if budget == 1 else 's'}**: lowest is {first['sampler']} with"
            f" {first['loss_nats']:.3f} ± {first['half_width']:.3f} nats over {first['searches']} searches of"
            f" {first['trials']:.0f} trials on average, highest {last['sampler']} with {last['loss_nats']:.3f}; the"
            f" start's setting has {start:.3f}. Intervals that overlap the lowest one's: {alike}."
        )
    )
