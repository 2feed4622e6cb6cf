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
# # Does one cost-aware search find the compute-optimal trade-off, and every hyperparameter's law?
#
# arXiv:2306.08055 searches along the front of loss and cost, and reads off it how size, tokens and the learning rate go
# with compute. Here the same is read off searches by scalelab's CARBS, and held against a grid of sizes and budgets
# with a tuned learning rate, and against random search. The rule of the verdict stands in
# `sweeps/cost_aware/LOG.md`. The runs:
#
#     sweeps/replicate.sh cost_aware

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.replications import Agreement

here = replications.read("cost_aware")
runs = here.runs()
kinds = runs["part"].str.rsplit("_", n=1).str[0]
carbs, random, grid = (
    runs[kinds == kind].drop(columns="shape.ffn", errors="ignore") for kind in ("carbs", "random", "iso")
)
BUDGETS = (1.1e9, 3.1e9, 9.1e9, 2.8e10)  # of the grid, a little above, as runs differ by a step
AGREES = 0.2
runs.assign(kind=kinds).groupby("kind").agg(
    parts=("part", "nunique"), runs=("run", "size"), flops=("cost_flops", "sum"), seconds=("seconds", "sum")
)

# %% [markdown]
# **The grid.** Tuned loss against size at every budget, and the best size by budget.

# %%
plots.isoflops(replications.tuned_losses(grid))

# %%
optimal = replications.compute_optimal(grid)
truth = {
    "params_non_embedding": optimal.params_exponent,
    "tokens": optimal.tokens_exponent,
}
truth = {
    of: replications.Finding(
        name=f"grid: exponent of {of}", value=each.value, low=each.low, high=each.high, n=len(grid)
    )
    for of, each in truth.items()
}  # fmt: skip
truth["lr"] = replications.optimal_lr(grid, optimal, name="grid: exponent of lr")
display(Markdown(f"```\n{optimal.summary()}\n```"))

# %% [markdown]
# **The searches.** Each one's front, and what runs it: a line of least squares a search is its law.

# %%
costs = 1e9, BUDGETS[-1]
front = replications.fronts(carbs, by="part", cost=costs)
for of in ("loss_nats", *truth, "batch_tokens"):
    wide = front.pivot_table(index="cost_flops", columns="part", values=of)
    wide.plot(logx=True, logy=of != "loss_nats", marker="o", linestyle="none", ylabel=of, figsize=(5, 2.6))

# %%
laws = {of: replications.powers(front, of=of, along="cost_flops", by=["part"]) for of in truth}
found = {of: replications.over_seeds(each, name=f"CARBS: exponent of {of}", n=len(carbs)) for of, each in laws.items()}
smallest = replications.Finding(
    name="CARBS: share of the front at the smallest batch", n=len(front),
    value=float((front["batch_tokens"] == runs["batch_tokens"].min()).mean()),
)  # fmt: skip
off = {of: replications.apart(found[of], truth[of], name=f"CARBS − grid: exponent of {of}") for of in truth}
display(pd.DataFrame(laws).round(3))

# %% [markdown]
# **Beside random search** of about the same FLOPs, and beside the grid's tuned losses, at its budgets.

# %%
lowest = {
    name: replications.lowest(table, by="part", costs=BUDGETS)
    for name, table in (("carbs", carbs), ("random", random))
    if len(table)
}
per_search = pd.concat(
    each.mean(axis=1).rename("loss_nats").reset_index().assign(kind=name) for name, each in lowest.items()
)
per_search["seed"] = per_search["part"].str.rsplit("_", n=1).str[1].astype(int)
beats = [
    replications.gap(
        *(replications.at(per_search, kind=kind) for kind in lowest), name="CARBS − random: front, mean over budgets"
    )
    for _ in range(len(lowest) - 1)  # none where random search was not run
]
cells = replications.tuned_losses(grid).assign(part="grid", outcome="OK")
best = replications.lowest(cells, by="part", costs=BUDGETS)
reached = replications.over_seeds(
    (lowest["carbs"] - best.loc["grid"]).mean(axis=1),
    name="CARBS − grid: lowest loss, mean over budgets", n=len(carbs), unit="nats",
)  # fmt: skip
spent = carbs.groupby("part")["cost_flops"].sum() / grid["cost_flops"].sum()
share = replications.over_seeds(spent, name="a search's FLOPs over the grid's", n=len(carbs) + len(grid))
display(pd.concat([*lowest.values(), best]).round(3))

# %% [markdown]
# **The verdict**, by the rule that was written before the runs.

# %%
agree = {of: each.within(AGREES) and each.low <= 0 <= each.high for of, each in off.items()}
against = {of: each.above(0) or each.below(0) for of, each in off.items()}
if all(agree.values()) and beats and beats[0].below(0) and share.below(0.5):
    agreement = Agreement.HOLDS
elif against["params_non_embedding"] or any(each.above(0) for each in beats):
    agreement = Agreement.DOES_NOT
elif not agree["params_non_embedding"] and not against["params_non_embedding"]:
    agreement = Agreement.UNDECIDED
else:
    agreement = Agreement.IN_PART
searches = carbs["part"].nunique()
said = {"size": "params_non_embedding", "tokens": "tokens", "lr": "lr"}
by_carbs, by_grid = (
    ", ".join(f"{name} ∝ C^{each[of].value:.2f}" for name, of in said.items()) for each in (found, truth)
)
behind = f"minus that of random search it is {beats[0].number}" if beats else "random search was not run"
seen = (
    f"{searches} searches of {len(carbs) // searches} trials, each {share.value:.0%} of the grid's FLOPs, give"
    f" {by_carbs} in the mean; the grid {by_grid}; their front minus the grid's is {reached.number}, {behind}"
)
display(
    Markdown(
        replications.conclude(
            here, agreement=agreement, seen=seen,
            findings=[*found.values(), *truth.values(), *off.values(), smallest, *beats, reached, share],
        )
    )
)  # fmt: skip
