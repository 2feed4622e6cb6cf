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
# # Are the best learning rate and batch a point in a convex bowl, and where does it go with scale?
#
# Step Law (arXiv:2503.04715) trains thousands of networks over learning rate and batch and finds a convex landscape with
# a broad bottom at every size N and horizon D, whose place follows power laws. Grids of both settings at three
# sizes and two horizons under SP, and at one larger and longer that is held out:
#
#     sweeps/replicate.sh lr_batch

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from scalelab import laws, plots, replications
from scalelab.laws.columns import COLUMNS
from scalelab.replications import Agreement, Finding

PUBLISHED = {"lr ~ N": -0.713, "lr ~ D": 0.307, "batch ~ D": 0.571}
SURE, CONVEX_SHARE, FEW = 1.64, 0.9, 0.5  # standard deviations; of the triples; % of the loss
SCALE = ["params_non_embedding", "tokens"]

here = replications.read("lr_batch")
runs = here.runs()
known = [name for name in COLUMNS if name in runs]
held_out = runs["part"].isin(["held_out", "published"])
largest = {name: float(runs.loc[held_out, name].iloc[0]) for name in SCALE}
every = laws.study(runs[known], target=largest, compare=["step-law"])
fitted = laws.study(runs.loc[~held_out, known], target=largest, compare=["step-law"])
runs.groupby([*SCALE, "width"]).agg(runs=("lr", "size"), best=("loss_nats", "min"))

# %% [markdown]
# **What was measured.** Contours of the loss over the lowest; stars are each scale's own best setting, crosses those
# of the law that all share, squares what the published formula chooses.

# %%
formula = {name: laws.published(f"step_law_{name}/step_law") for name in ("lr", "batch")}
chosen = [
    {**cell.scale, "lr": formula["lr"].predict(params=cell.scale[SCALE[0]], tokens=cell.scale["tokens"]),
     "batch_tokens": formula["batch"].predict(tokens=cell.scale["tokens"])}
    for cell in every.groups[0].joint.cells
]  # fmt: skip
plots.landscapes(every, runs, chosen={"the published formula's": chosen})

# %% [markdown]
# **Is it convex?** Every three runs in line on the grids, along both settings and both diagonals; then a quadratic form
# a scale, with its smaller eigenvalue.

# %%
lines = replications.triples(runs[~held_out], by=SCALE)
convex = lines["second"] > -SURE * lines["sd"]
lines["line"] = lines["lr_steps"].astype(str) + " in lr, " + lines["batch_tokens_steps"].astype(str) + " in batch"
lines.assign(convex=convex, surely_convex=lines["second"] > SURE * lines["sd"], surely_not=~convex).groupby("line")[
    ["convex", "surely_convex", "surely_not"]
].mean()

# %%
# Those that are not: how high over the bottom their middles lie, in nats.
lines[~convex].sort_values("rise")[[*SCALE, "line", "second", "sd", "rise"]]

# %%
bowls = replications.bowls(runs, by=SCALE)
bowls.round(4)

# %% [markdown]
# **Where does the bottom go?** Each scale's own best setting, and power laws of them in the paper's form.

# %%
group = fitted.groups[0]
fits = group.setting_fits
exponents = {
    "lr ~ N": fits["step_law_lr"].estimates["p_params"],
    "lr ~ D": fits["step_law_lr"].estimates["p_tokens"],
    "batch ~ D": fits["step_law_batch"].estimates["p_tokens"],
}
conditional = {name: group.joint.estimates[name] for name in group.joint.estimates if " ~ " in name and "curv" not in name}
plots.optimum_against_batch(fitted)

# %% [markdown]
# **Does the law know the scale held out?** Every way of choosing was fitted to the smaller sizes alone.

# %%
plots.hold_outs(every)

# %%
