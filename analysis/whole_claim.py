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
# # Does a recipe from small proxies train a large network well?
#
# All of scalelab, end to end: proxies of three widths, three depths and four horizons are swept, laws are fitted, a
# target is projected that is wider, deeper and trained longer than any of them, and is then trained with the recipe
# and around it. Beside it stands what is usually done: SP, tuned on the largest proxy, its learning rate copied.
#
#     sweeps/replicate.sh whole_claim

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import study, tables

here = replications.read("whole_claim")
proxies, target, copied = here.runs(), here.runs("target.csv"), here.runs("copied.csv")
swept = replications.at(proxies, parametrization="completep")
lr, cost = target["lr"].sort_values().unique(), target["cost_flops"].iloc[0]
recipe = float(lr[len(lr) // 2])  # the sweep at the target is symmetric about it, in factors
pd.concat([swept, target]).groupby(["width", "depth", "tokens"])["loss_nats"].agg(["count", "min"])

# %% [markdown]
# **The proxies.** Every scale's optimum, and the law through them.

# %%
known = [name for name in proxies if "." not in name and name not in ("part", "model", "seconds")]
laws = study(swept[known], theory={"width": 0, "depth": 0})
plots.optimum_against_scale(laws)

# %%
tables(laws)["exponents"]

# %% [markdown]
# **The target.** Loss with the recipe's learning rate, and with others.

# %%
by_lr = target.groupby("lr")["loss_nats"].agg(["mean", "std", "count"]).reset_index()
by_lr["of the recipe's"] = by_lr["lr"] / recipe
display(by_lr)
drawn = plots.figure()
axis = drawn.subplots()
axis.plot(target["lr"], target["loss_nats"], ".", label="target, a seed")
axis.plot(by_lr["lr"], by_lr["mean"], "-", color="0.5")
axis.axvline(recipe, linestyle="--", label="recipe")
axis.axhline(copied["loss_nats"].mean(), color="C3", label="SP, learning rate copied from the largest proxy")
axis.set(xscale="log", xlabel="base learning rate", ylabel="loss (nats)")
axis.legend()
drawn

# %% [markdown]
# **In numbers.** The rule: it holds if the recipe's regret, at the far end of its interval, is below a hundredth of the
# loss at a target of sixteen times the parameters or more; in part if the regret itself is and its interval is not.

# %%
size = "params_non_embedding"
times = float(target[size].iloc[0] / proxies[size].max())
at_recipe = replications.at(target, lr=recipe)
loss = at_recipe["loss_nats"].mean()
others = by_lr[by_lr["lr"] != recipe]
best_other = replications.at(target, lr=float(others.loc[others["mean"].idxmin(), "lr"]))
lost = replications.regret(target, recipe, name="regret of the recipe, by a valley at the target")
against = replications.gap(at_recipe, best_other, name="recipe minus the best other learning rate tried")
largest = replications.tuned(replications.at(swept, depth=2, tokens=swept["tokens"].min() * 2), along=size)
carried = replications.regret(target, float(largest["lr"].iloc[-1]), name="the same, of the largest proxy's rate, copied")
usual = replications.gap(copied, at_recipe, name="SP with its rate copied, minus the recipe")
spent = replications.Finding(
    name="tuning, in runs of the target", value=float(swept["cost_flops"].sum() / cost), n=len(swept)
)
bigger = replications.Finding(name="parameters of the target / of the largest proxy", value=times, n=1)
noise = replications.Finding(
    name="noise of one run at the target (sd)", value=float(by_lr["std"].pow(2).mean() ** 0.5), unit="nats",
    n=len(target),
)  # fmt: skip

bound = loss / 100
agreement = (
    replications.Agreement.HOLDS if times >= 16 and lost.below(bound)
    else replications.Agreement.IN_PART if times >= 16 and lost.value < bound
    else replications.Agreement.DOES_NOT
)  # fmt: skip
Markdown(
    replications.conclude(
        here,
        agreement=agreement,
        seen=f"at {times:.0f}× the parameters, {target['tokens'].iloc[0] / proxies['tokens'].max():g}× the tokens and twice"
        f" the width·depth of any proxy, the recipe loses {lost.number} ({100 * lost.value / loss:.2f} % of the loss; a"
        f" run's noise {noise.number}); SP with its learning rate copied loses {usual.number}; tuning cost"
        f" {spent.number} runs of the target",
        findings=[bigger, lost, against, noise, carried, usual, spent],
    )
)
