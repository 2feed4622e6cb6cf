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
# # Does the best learning rate stay as the network grows deeper?
#
# muP has rules for width and none for depth. Depth-muP and CompleteP have, and disagree on how much a residual branch
# should be damped. One transformer, several depths, each table tuned at each depth:
#
#     scalelab train -m +sweep=lr_depth
#     scalelab fit runs/lr_depth -o laws    # leaves laws/runs.csv, kept here as results/depth_runs.csv

# %%
# %matplotlib inline
from pathlib import Path

from IPython.display import Markdown, display

from scalelab import plots, readers
from scalelab.laws import drift, study, tables

HERE = Path("analysis") if Path("analysis").is_dir() else Path()
runs = readers.read([HERE / "results" / "depth_runs.csv"])
laws = study(runs.table, theory={"depth": 0})
runs.table.groupby(["parametrization", "depth"])["lr"].agg(runs="count", lowest="min", highest="max")

# %% [markdown]
# **What was measured.** A valley a depth, a panel a table.

# %%
plots.valleys(laws, runs.table)

# %% [markdown]
# **Does it stay?** The optimum against depth.

# %%
plots.optimum_against_scale(laws)

# %%
for name, group in zip(plots.titles(laws), laws.groups, strict=True):
    moved = drift(group)
    exponent = moved.exponent
    way = "stays" if exponent.contains(0.0) else "falls" if exponent.value < 0 else "rises"
    display(
        Markdown(
            f"**{name}**: the optimum {way}, with depth to the power {exponent.value:+.2f} [{exponent.low:+.2f},"
            f" {exponent.high:+.2f}]. From depth {moved.smallest:g} to {moved.largest:g} it goes from"
            f" {2**moved.first_log2_lr:.4f} to {2**moved.last_log2_lr:.4f}; copying the shallowest one's to the deepest"
            f" loses {moved.copy_cost_nats:.4f} nats."
        )
    )

# %% [markdown]
# **Which table is best where it was tuned?** That is not the same question, and a seed's noise is beside it.

# %%
optima = tables(laws)["optima"]
deepest = optima[optima["depth"] == optima["depth"].max()].sort_values("loss_nats")
first, second = deepest.iloc[0], deepest.iloc[1]
display(
    Markdown(
        f"At depth {first['depth']:g} the lowest fitted loss is {first['parametrization']}'s, {first['loss_nats']:.4f}"
        f" nats; {second['parametrization']} follows with {second['loss_nats']:.4f}. One run's noise is"
        f" {first['noise_nats']:.4f} nats."
    )
)
deepest[["parametrization", "lr", "lr_low", "lr_high", "loss_nats", "noise_nats", "status"]]
