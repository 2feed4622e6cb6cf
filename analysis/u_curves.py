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
# # Learning-rate valleys and how their optimum moves
#
# From a store of trials (run folders, or a table such as the one `scalelab fit` leaves beside its laws) to the two
# figures that say whether a parametrization transfers. Set `SCALELAB_RUNS` to draw your own; without it, the runs of
# the demo are drawn: one transformer, four widths, SP and muP, seven learning rates, three seeds.

# %%
# %matplotlib inline
import os
from pathlib import Path

from scalelab import plots, readers
from scalelab.laws import drift, study, tables

HERE = Path("analysis") if Path("analysis").is_dir() else Path()
source = Path(os.environ.get("SCALELAB_RUNS", HERE / "results" / "demo_runs.csv"))
runs = readers.read([source])
runs.table.groupby(["parametrization", "width"])[["loss_nats"]].agg(["count", "min"])

# %% [markdown]
# The valleys: validation loss against the peak learning rate at the base. Points are seeds, thick lines the fitted
# valleys, stars the optima, crosses diverged runs.

# %%
laws = study(runs.table, theory={"width": 0})
plots.valleys(laws, runs.table)

# %% [markdown]
# The optimum against width, with the joint law and its 95 % band, extrapolated to four times the largest width.

# %%
plots.optimum_against_scale(laws)

# %% [markdown]
# The same as numbers: how far the optimum drifts over the swept widths, and what it would cost at the largest width to
# copy the smallest's.

# %%
for group in laws.groups:
    moved = drift(group)
    print(
        f"{plots.title(group)}: {moved.octaves:+.2f} ± {moved.sd_octaves:.2f} octaves from width {moved.smallest:g} to"
        f" {moved.largest:g}, exponent {moved.exponent.value:+.2f} [{moved.exponent.low:+.2f},"
        f" {moved.exponent.high:+.2f}], copying costs {moved.copy_cost_nats:.3f} nats"
    )

# %%
tables(laws)["optima"][["parametrization", "width", "lr", "lr_low", "lr_high", "loss_nats", "status"]]
