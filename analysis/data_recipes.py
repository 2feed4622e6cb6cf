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
# # At which learning rate do small runs rank data recipes as large, tuned ones do?
#
# arXiv:2512.24503 finds that small runs at a usual learning rate rank data recipes wrongly, and at a tiny one rightly.
# The rule of the verdict stands in `sweeps/data_recipes/LOG.md`. The runs:
#
#     sweeps/replicate.sh data_recipes

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import replications
from scalelab.replications import Agreement

here = replications.read("data_recipes")
runs = here.runs()
runs["recipe"] = runs["data.path"].str.extract(r"([^/]+)\.txt$")[0]
small, target = (runs[runs["part"] == part] for part in ("small", "target"))
TINY = 1 / 64
RIGHT = 0.9

# %% [markdown]
# **The losses**, means over seeds on one validation text: of the small runs at each learning rate, of the large ones.

# %%
losses = small.pivot_table(index="recipe", columns="lr", values="loss_nats")
tuned = pd.concat(
    replications.tuned(table, along="recipe") for _, table in target.groupby("recipe")
).set_index("recipe")  # fmt: skip
order = tuned.sort_values("loss_nats").index
display(losses.loc[order].round(3))
display(tuned.loc[order].round(4))

# %% [markdown]
# **The ranks** of the recipes, the target's from the left to the right. Parallel lines would be one ranking.

# %%
ranks = losses.rank().assign(target=tuned["loss_nats"].rank()).loc[order]
ranks.T.plot(figsize=(8, 4), marker="o", ylabel="rank")

# %%
usual = losses.mean().idxmin()
tiny = usual * TINY
ranked = replications.ranking(small, target, of="recipe")
apart = replications.ranking(small, target, of="recipe", kind="pearson")
next_up = min(lr for lr in losses.columns if lr > usual)
at_usual = replications.at(small, lr=usual)
without = {  # a recipe each left out: whether one alone makes the difference
    each: replications.ranking(*(table[table["recipe"] != each] for table in (small, target)), of="recipe")
    for each in order
}
turned = replications.ranking(small, at_usual, of="recipe")
display(ranked.table().round(3), apart.table().round(3))

# %% [markdown]
# **The best learning rate of each recipe**, small and large: the paper's reason why one rate for all misleads.

# %%
best = pd.DataFrame({"small": losses.idxmin(axis=1), "target": tuned["lr"]}).loc[order]
display(best)

# %% [markdown]
# **The verdict**, by the rule that was written before the runs.

# %%
at_tiny = ranked.at(tiny, name="rank correlation with the target, tiny learning rate")
at_one = ranked.at(usual, name="rank correlation with the target, usual learning rate")
gain = ranked.difference(tiny, usual, name="tiny − usual")
differences = {
    name: each.difference(tiny, usual, name=f"tiny − usual, without the recipe {name}")
    for name, each in without.items()
}
alone = max(differences, key=lambda name: differences[name].value)
findings = [
    at_tiny, at_one, gain, differences[alone],
    ranked.at(usual * TINY / 16, name="rank correlation with the target, a 16th of the tiny rate"),
    ranked.at(next_up, name="rank correlation with the target, 4 times the usual rate"),
    turned.at(next_up, name="rank correlation of 4 times the usual rate with the usual one"),
    apart.at(tiny, name="correlation of losses with the target's, tiny learning rate"),
    apart.at(usual, name="correlation of losses with the target's, usual learning rate"),
]  # fmt: skip
if at_tiny.value >= RIGHT and gain.above(0):
    agreement = Agreement.HOLDS
elif gain.below(0):
    agreement = Agreement.DOES_NOT
elif gain.above(0) or at_tiny.above(RIGHT):
    agreement = Agreement.IN_PART
else:
    agreement = Agreement.UNDECIDED
times = target["params_non_embedding"].iloc[0] / small["params_non_embedding"].iloc[0]
seen = (
    f"over {len(order)} recipes the rank correlation of small runs with tuned ones of {times:.0f} times the parameters"
    f" is {at_one.number} at the usual learning rate {usual:g} and {at_tiny.number} at 1/{1 / TINY:.0f} of it, lower by"
    f" {-gain.value:.2f}; without the recipe `{alone}` the difference is {differences[alone].number}"
)
display(Markdown(replications.conclude(here, agreement=agreement, seen=seen, findings=findings)))
