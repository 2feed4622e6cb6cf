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
# # How does the best learning rate move with the batch and the training length?
#
# Tables such as muP say nothing of either, so it has to be measured. One width, four batches, three horizons, seven
# learning rates, two seeds:
#
#     scalelab train -m study=batch_and_horizon hydra/launcher=fused width=32 base.width=32 \
#         lr=0.001953125,0.00390625,0.0078125,0.015625,0.03125,0.0625,0.125 \
#         batch_tokens=128,256,512,1024 tokens=24576,49152,98304 seed=0,1
#     scalelab fit runs/batch_and_horizon -o laws    # leaves laws/runs.csv, kept as results/batch_and_horizon_runs.csv

# %%
# %matplotlib inline
from pathlib import Path

from IPython.display import Markdown, display

from scalelab import plots, readers
from scalelab.laws import study, tables

HERE = Path("analysis") if Path("analysis").is_dir() else Path()
runs = readers.read([HERE / "results" / "batch_and_horizon_runs.csv"])
laws = study(runs.table, draws=400)
(group,) = laws.groups
runs.table.groupby(["tokens", "batch_tokens"])["loss_nats"].agg(["count", "min"])

# %% [markdown]
# **What was measured.** A valley a batch and horizon.

# %%
plots.valleys(laws, runs.table)

# %%
tables(laws)["optima"][["tokens", "batch_tokens", "lr", "lr_low", "lr_high", "loss_nats", "status"]]

# %% [markdown]
# **How it moves.** All runs in one likelihood: the learning rate's exponent in each scale, the other held.

# %%
plots.optimum_against_scale(laws)

# %%
plots.optimum_against_batch(laws)

# %%
for name in ("tokens", "batch_tokens"):
    e = group.joint.estimates[f"lr ~ {name}"]
    sure = "0 is outside" if not e.contains(0.0) else "0 is inside, so that these runs do not settle its sign"
    display(
        Markdown(
            f"The best learning rate goes with **{name}** to the power {e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
            f" ({sure}): twice the {name.replace('_', ' ')} multiplies it by {2**e.value:.2f}."
        )
    )

# %% [markdown]
# **What to use next.** At twice the longest horizon, for each batch that was tried; the interval is for that run's
# own optimum.

# %%
longest = group.joint.domain["tokens"][1]
for batch in sorted(runs.table["batch_tokens"].unique()):
    setting = group.joint.predict(tokens=2 * longest, batch_tokens=float(batch))
    lr = setting.values["lr"]
    display(
        Markdown(
            f"{2 * longest:,.0f} tokens in batches of {batch:,.0f}: lr {lr.value:.4f} [{lr.low:.4f}, {lr.high:.4f}],"
            f" expected to cost {100 * setting.expected_excess:.2f} % of the loss for not being known better."
        )
    )

# %% [markdown]
# **What these runs cannot say.** Warnings come with the fit.

# %%
for warning in group.joint.warnings:
    display(Markdown(f"- {warning}"))

# %% [markdown]
# **Would it have held?** The longest horizon left out.

# %%
plots.hold_outs(laws)

# %%
best, copied = group.validation.scores[0], next(s for s in group.validation.scores if s.method.startswith("copy"))
display(
    Markdown(
        f"“{best.method}” would have lost {best.mean_percent:.3f} % at the horizon left out; carrying over the largest"
        f" trained one's setting as it is, {copied.mean_percent:.3f} %."
    )
)
