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
# # Your own study
#
# Copy this file, and say below where your runs are: run folders (searched below), a CSV, Parquet or JSON Lines table
# of any trainer's runs, W&B runs. `jupytext --sync NAME.py` makes the notebook of it. Until then it shows the runs of
# the demo. What it does, `scalelab fit RUNS -o laws` does too, on one page: `laws/laws.html`.

# %%
# %matplotlib inline
import os
from pathlib import Path

from IPython.display import Markdown, display

from scalelab import plots, readers
from scalelab.laws import drift, study, tables

HERE = Path("analysis") if Path("analysis").is_dir() else Path()
STUDY = os.environ.get("SCALELAB_RUNS", HERE / "results" / "demo_runs.csv")  # put your study's folder here
COLUMNS = []  # which column is which, where names are others': ["lr=learning_rate", "loss_nats=val_loss"]
runs = readers.read([STUDY], columns=readers.parse_columns(COLUMNS))
runs.table.head()

# %% [markdown]
# Name the scales over which the optimum should stay, by the theory behind your parametrization; leave `theory` out
# where there is none.

# %%
laws = study(runs.table, theory={"width": 0})
tables(laws)["optima"]

# %%
tables(laws)["exponents"]

# %% [markdown]
# Every figure that these runs can carry, with what is to be seen in it.

# %%
for drawing in plots.drawings(laws, runs.table):
    display(Markdown(f"**{drawing.title}.** {drawing.caption}"), drawing.figure)

# %% [markdown]
# In words:

# %%
for name, group in zip(plots.titles(laws), laws.groups, strict=True):
    moved = drift(group)
    if moved is None:
        display(Markdown(f"**{name}**: fewer than two scales have an optimum inside their grids."))
        continue
    display(
        Markdown(
            f"**{name}**: from {moved.scale.replace('_', ' ')} {moved.smallest:g} to {moved.largest:g} the best"
            f" learning rate moves by {moved.octaves:+.2f} ± {moved.sd_octaves:.2f} octaves; copying the smallest one's"
            f" to the largest loses {moved.copy_cost_nats:.4f} nats."
        )
    )
    for what, why in group.not_fitted.items():
        display(Markdown(f"- not fitted, {what}: {why}"))
