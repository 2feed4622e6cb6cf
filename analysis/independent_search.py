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
# # Is the learning rate all that u-muP needs tuned?
#
# u-muP's paper searches a line of the learning rate with all else at its default, then a line of each other
# hyperparameter at that rate, then takes the best of all together. Under u-muP the first phase is said to be
# near-optimal, under muP not, as its hyperparameters depend on each other. Beside it a random search of all, and every
# setting that was chosen trained again on seeds that had no part in the choice:
#
#     sweeps/replicate.sh independent_search

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.replications import Agreement, Finding, gap, independent, over_seeds

here = replications.read("independent_search")
runs = here.runs()
TITLES = {"u_mup": "u-muP", "mup": "muP"}
tables = {name: runs[runs["parametrization"] == name] for name in TITLES}
searched = {name: own[own["seed"] < independent.FRESH] for name, own in tables.items()}
fresh = {name: own[own["seed"] >= independent.FRESH] for name, own in tables.items()}
runs.groupby(["parametrization", "part"]).agg(runs=("lr", "size"), best=("loss_nats", "min"), seeds=("seed", "nunique"))

# %% [markdown]
# **The lines**, mean of two seeds: what a value loses beside the default (of the learning rate: beside the best).

# %%
chosen = {name: independent.independent(searched[name], independent.SEARCHED[name]) for name in TITLES}
lines, best = {}, {}
for name, title in TITLES.items():
    others = independent.SEARCHED[name]
    lr = independent.line(searched[name], "lr", others)
    best[name] = lr.min()
    lines.setdefault("lr", {})[title] = (lr - lr.min()).rename(index=lambda value, at=chosen[name]["lr"]: value / at)
    for other in others:
        losses = independent.line(searched[name], other, others, chosen[name]["lr"])
        lines.setdefault(other.removeprefix("hparams.").replace("_", " "), {})[title] = losses - losses[1.0]
plots.lines({k: pd.DataFrame(v) for k, v in lines.items()}, x="times the default", y="loss beside it (nats/token)")

# %%
pd.DataFrame(chosen)

# %% [markdown]
# **What was chosen, on fresh seeds.** `lr_only` is the first phase, `combined` the third. The first fresh seeds choose
# the best beside `lr_only`, the others judge it.

# %%
names = ["seed", "loss_nats"]
final, reference = {}, {}
for name in TITLES:
    trials = tables[name][tables[name]["part"] == f"random_{name}"]
    settings = independent.finalists(searched[name], trials, independent.SEARCHED[name])
    found = {each: replications.selected(fresh[name], setting)[names] for each, setting in settings.items()}
    choosing = independent.FRESH + independent.CHOOSING
    chooses = {each: rows.loc[rows["seed"] < choosing, "loss_nats"].mean() for each, rows in found.items()}
    reference[name] = min(chooses.keys() - {"lr_only"}, key=chooses.get)
    final[name] = {each: rows[rows["seed"] >= choosing].set_index("seed")["loss_nats"] for each, rows in found.items()}
pd.DataFrame({(TITLES[name], each): losses for name in TITLES for each, losses in final[name].items()}).T.agg(
    ["mean", "std", "count"], axis=1
)

# %%
apart = {name: final[name]["lr_only"] - final[name][reference[name]] for name in TITLES}
left = {
    name: over_seeds(
        apart[name],
        name=f"{title}: lr alone minus the best other found ({reference[name]})",
        unit="nats",
        n=2 * len(apart[name]),
    )
    for name, title in TITLES.items()
}
together = {
    name: over_seeds(
        final[name]["combined"] - final[name]["lr_only"], name=f"{title}: best values together minus lr alone",
        unit="nats", n=2 * len(apart[name]),
    )
    for name, title in TITLES.items()
}  # fmt: skip
more = over_seeds(
    apart["mup"] - apart["u_mup"],
    name="what lr alone leaves, muP's minus u-muP's",
    unit="nats",
    n=4 * len(apart["mup"]),
)
promised = {
    name: sum(line[title].min() for key, line in lines.items() if key != "lr" and title in line)
    for name, title in TITLES.items()
}
for name, title in TITLES.items():
    display(
        Markdown(
            f"**{title}**: its lines promise {promised[name]:+.3f} nats if their gains add up; taking their best values"
            f" together gives {together[name].number}."
        )
    )

# %% [markdown]
# **Do they depend on each other?** The transfer error of every pair with the learning rate, in nats.

# %%
errors = {name: independent.transfer_errors(searched[name], independent.SEARCHED[name]) for name in TITLES}
pd.concat([table.assign(table=TITLES[name]) for name, table in errors.items()]).pivot_table(
    index=["table", "fixed"], columns="transfer", values="nats"
)

# %%
counts = {name: int(searched[name]["part"].str.startswith(("lr", "lines", "mesh")).sum()) for name in TITLES}
mean_errors = [
    Finding(
        name=f"{title}: mean transfer error with lr",
        value=float(errors[name]["nats"].mean()),
        unit="nats",
        n=counts[name],
    )
    for name, title in TITLES.items()
]
coupled = independent.errors_apart(
    errors["mup"], errors["u_mup"], name="mean transfer error, muP's minus u-muP's", n=sum(counts.values())
)
tuned = gap(
    fresh["u_mup"].merge(final["u_mup"]["lr_only"].reset_index()),
    fresh["mup"].merge(final["mup"]["lr_only"].reset_index()),
    name="lr alone tuned, u-muP minus muP",
)

# %% [markdown]
# **The rule**, as LOG.md states it.

# %%
limit = 0.01 * float(final["u_mup"]["lr_only"].mean())
near, needs_more, independence = left["u_mup"].below(limit), more.above(0.0), coupled.above(0.0)
if near and needs_more and independence:
    agreement = Agreement.HOLDS
elif left["u_mup"].above(limit) and not needs_more:
    agreement = Agreement.DOES_NOT
elif near or needs_more or independence:
    agreement = Agreement.IN_PART
else:
    agreement = Agreement.UNDECIDED
steps = (runs["tokens"] / runs["batch_tokens"]).max()
seen = (
    f"With the learning rate alone u-muP is {left['u_mup'].number} above the best other setting found and muP"
    f" {left['mup'].number}; transfer errors with the learning rate are {mean_errors[0].value:.3f} and"
    f" {mean_errors[1].value:.3f} nats (width {runs['width'].max():g}, {steps:g} steps)."
)
findings = [*left.values(), more, *together.values(), *mean_errors, coupled, tuned]
Markdown(replications.conclude(here, agreement=agreement, seen=seen, findings=findings))
