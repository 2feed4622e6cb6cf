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
# # Does the best learning rate stay as the network grows wider?
#
# A learning rate that was tuned on a narrow proxy is worth something if it is still the best one on a wide network.
# SP does not promise that, muP does. The runs are those of `make demo`:
#
#     scalelab train -m +sweep=demo/proxies out=runs/demo
#     scalelab fit runs/demo/proxies -o laws    # leaves laws/runs.csv, kept here as results/demo_runs.csv

# %%
# %matplotlib inline
from pathlib import Path

from IPython.display import Markdown, display

from scalelab import plots, readers
from scalelab.laws import drift, study, tables

HERE = Path("analysis") if Path("analysis").is_dir() else Path()
runs = readers.read([HERE / "results" / "demo_runs.csv"])
laws = study(runs.table, theory={"width": 0})
runs.table.groupby(["parametrization", "width"])["lr"].agg(runs="count", lowest="min", highest="max")

# %% [markdown]
# **What was measured.** Loss against the peak learning rate, a valley a width. Points are seeds, stars the fitted
# optima.

# %%
plots.valleys(laws, runs.table)

# %%
tables(laws)["optima"][["parametrization", "width", "lr", "lr_low", "lr_high", "loss_nats", "status"]]

# %% [markdown]
# **Does it stay?** The optimum against width, with the law's 95 % band. Flat is what a table that transfers promises.

# %%
plots.optimum_against_scale(laws)

# %%
for name, group in zip(plots.titles(laws), laws.groups, strict=True):
    moved = drift(group)
    exponent = moved.exponent
    kept = (
        "the interval holds 0: no drift is seen" if exponent.contains(0.0) else "the interval leaves 0 out: it drifts"
    )
    display(
        Markdown(
            f"**{name}**: from width {moved.smallest:g} to {moved.largest:g} the optimum moves by {moved.octaves:+.2f}"
            f" ± {moved.sd_octaves:.2f} octaves, an exponent of {exponent.value:+.2f} [{exponent.low:+.2f},"
            f" {exponent.high:+.2f}]; {kept}. Copying the narrowest one's best learning rate to the widest loses"
            f" {moved.copy_cost_nats:.4f} nats."
        )
    )

# %% [markdown]
# **What would it have cost?** The widest network is left out, and every way of choosing its learning rate from the
# narrower ones is scored by the loss of its choice there.

# %%
plots.hold_outs(laws)

# %%
for name, group in zip(plots.titles(laws), laws.groups, strict=True):
    best, worst = group.validation.scores[0], group.validation.scores[-1]
    display(
        Markdown(
            f"**{name}**: of {len(group.validation.scores)} ways “{best.method}” would have lost least,"
            f" {best.mean_percent:.3f} % of the loss, and “{worst.method}” most, {worst.mean_percent:.3f} %."
        )
    )

# %% [markdown]
# Whether a table lowers the loss is another question: compare the smallest losses of the two above, at the widest
# width.

# %%
optima = tables(laws)["optima"]
wide = optima[optima["width"] == optima["width"].max()].set_index("parametrization")["loss_nats"]
noise = {group.key["parametrization"]: group.noise.sd_nats for group in laws.groups}
said = ", ".join(f"{name} {loss:.3f} nats (a run's noise {noise[name]:.3f})" for name, loss in wide.items())
display(Markdown(f"Tuned at width {optima['width'].max():g}: {said}."))
