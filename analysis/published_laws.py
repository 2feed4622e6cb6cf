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
# # What would published laws have said about these runs?
#
# Laws of the best learning rate and of the loss were published for far larger networks, on other data. Here they are
# asked about small proxies: far outside of what they were fitted to, which is what anybody does who takes a law from
# a paper. Four widths, three horizons, four learning rates, two seeds:
#
#     scalelab train -m study=sizes hydra/launcher=fused width=32,64,96,128 \
#         lr=0.0078125,0.015625,0.03125,0.0625 tokens=25600,51200,102400 seed=0,1
#     scalelab fit runs/sizes -o laws    # leaves laws/runs.csv, kept here as results/sizes_runs.csv

# %%
# %matplotlib inline
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, readers
from scalelab.laws import study

HERE = Path("analysis") if Path("analysis").is_dir() else Path()
COMPARED = ["step-law", "deepseek", "porian", "kaplan", "hoffmann", "epoch"]
runs = readers.read([HERE / "results" / "sizes_runs.csv"])
laws = study(runs.table, compare=COMPARED, draws=400, theory={"width": 0})
(group,) = laws.groups
runs.table.groupby(["width", "tokens"])["loss_nats"].agg(["count", "min"])

# %% [markdown]
# **Published laws beside these runs.** For settings: the excess loss of their choice, by the fitted valleys. For
# losses: the error of what they predict. A loss is per token, and here a token is a byte, so that no published law of
# the loss can be right: its error says that such a law belongs to its text and tokenizer.

# %%
pd.DataFrame([vars(each) for each in group.compared])

# %%
for each in group.compared:
    what = "its loss is off by" if each.output == "loss_nats" else f"its {each.output} would lose"
    display(
        Markdown(
            f"**{each.name}**: {what} {each.mean_percent:.3g} % on average over {each.scales} scales,"
            f" {each.worst_percent:.3g} % at worst{f' ({each.note})' if each.note else ''}."
        )
    )

# %% [markdown]
# **Laws fitted here.** Forms of the loss law with coefficients of these runs, best first: `cv_percent` is the error
# at sizes left out.

# %%
pd.DataFrame([vars(score) for score in group.loss_scores]).round(3)

# %%
plots.loss_law(group, runs.table)

# %% [markdown]
# **Choosing the learning rate of the widest network**, left out: by each way.

# %%
plots.hold_outs(laws)

# %%
for score in group.validation.scores:
    display(Markdown(f"- {score.method}: {score.mean_percent:.3f} % on average, {score.worst_percent:.3f} % at worst"))
