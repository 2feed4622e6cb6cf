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
# target is projected that is wider and deeper than any of them, and is then trained with the recipe and around it.
# Beside it stands what is usually done: SP, tuned on the widest proxy, its learning rate copied.
#
#     sweeps/replicate.sh whole_claim

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import study, tables
from scalelab.replications import Agreement, Finding, at, gap, regret, slope, tuned

here = replications.read("whole_claim")
proxies, target, copied = here.runs(), here.runs("target.csv"), here.runs("copied.csv")
swept = at(proxies, parametrization="completep")
SIZE = "params_non_embedding"


def recipe_of(runs):
    """The sweep at a target is symmetric about the recipe's learning rate, in factors."""
    rates = sorted(runs["lr"].unique())
    return float(rates[len(rates) // 2])


recipe = recipe_of(target)
target.groupby(["width", "depth", "tokens", SIZE])["lr"].agg(["count", "min", "max"])

# %% [markdown]
# **The proxies.** Every scale's optimum, and the law through them.

# %%
laws = study(replications.for_laws(swept), theory={"width": 0, "depth": 0})
plots.optimum_against_scale(laws)

# %%
tables(laws)["exponents"]

# %% [markdown]
# **The target.** The loss with the recipe's learning rate (the middle one), with others, and of SP with its rate
# copied.

# %%
by_lr = target.groupby("lr")["loss_nats"].agg(["mean", "std", "count"]).reset_index()
display(by_lr.assign(factor=by_lr["lr"] / recipe))
plots.lines(
    {
        "target": target.pivot_table(index="lr", columns="seed", values="loss_nats"),
        "SP, copied": copied.pivot_table(index="lr", columns="seed", values="loss_nats"),
    },
    x="lr",
    y="loss (nats/token)",
)

# %% [markdown]
# **In numbers.** The rule: it holds if the recipe's regret, at the far end of its interval, is below a hundredth of the
# loss at a target of sixteen times the parameters or more; in part if the regret itself is and its interval is not.

# %%
times = float(target[SIZE].iloc[0] / proxies[SIZE].max())
at_recipe = at(target, lr=recipe)
loss = float(at_recipe["loss_nats"].mean())
others = by_lr[by_lr["lr"] != recipe]
best_other = at(target, lr=float(others.loc[others["mean"].idxmin(), "lr"]))
widest = float(tuned(at(swept, part="width"), along="width")["lr"].iloc[-1])
lost = regret(target, recipe, name="regret of the recipe, by a valley at the target")
against = gap(at_recipe, best_other, name="recipe − the best other learning rate tried there")
plain = regret(target, widest, name="regret of the widest proxy's learning rate, copied, same table")
usual = gap(copied, at_recipe, name="SP with its learning rate copied − the recipe")
horizon = slope(at(swept, part="tokens"), along="tokens", name="best lr of the smallest proxy against the horizon")
spent = Finding(
    name="tuning, in runs of the target", value=float(swept["cost_flops"].sum() / target["cost_flops"].iloc[0]),
    n=len(swept),
)  # fmt: skip
noise = Finding(
    name="noise of one run at the target (sd)", value=float(by_lr["std"].pow(2).mean() ** 0.5), unit="nats",
    n=len(target),
)  # fmt: skip
size = Finding(name="parameters, target / largest proxy", value=times, n=1)

# %% [markdown]
# **The first design**, which failed. Its proxies were trained for at most half the target's horizon, most of them for a
# few dozen steps, and the law that they gave was carried on. The first target is then looked at again with the recipe's
# law of the second design, which was made after that failure; only the second target is a test of it.

# %%
first, first_proxies = here.runs("first_target.csv"), here.runs("first_results.csv")
failed = regret(first, recipe_of(first), name="first design, at its own target: regret of the recipe")
short = slope(
    at(first_proxies, part="tokens", parametrization="completep"), along="tokens",
    name="first design: best lr against its shorter horizons",
)  # fmt: skip

# %%
bound = loss / 100
if times < 16 or lost.value > bound:
    agreement = Agreement.DOES_NOT
else:
    agreement = Agreement.HOLDS if lost.below(bound) else Agreement.IN_PART
seen = (
    f"at {times:.0f}× the parameters of any proxy the recipe loses {lost.number} ({100 * lost.value / loss:.2f} % of"
    f" the loss; a run's noise {noise.number}), the widest proxy's learning rate copied {plain.number}, SP with its"
    f" own copied {usual.number}; tuning cost as much as {spent.number} runs of the target. A first design, with"
    f" horizons of at most half the target's, lost {failed.number}"
)
findings = [size, lost, against, noise, plain, usual, spent, horizon, failed, short]
display(Markdown(replications.conclude(here, agreement=agreement, seen=seen, findings=findings)))
