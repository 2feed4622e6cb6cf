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
# # Does the best learning rate fall as training gets longer?
#
# "Scaling Optimal LR Across Token Horizons" (arXiv:2409.19913) trains networks at one batch to many horizons and finds
# that the best peak learning rate falls as a power of the tokens, under muP as well, so that short horizons tell what a
# long one needs. Seven horizons, each doubling the last, at two widths under muP:
#
#     sweeps/replicate.sh token_horizon

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import laws, plots, replications
from scalelab.replications import Agreement, Finding, at

PUBLISHED = -0.32  # of 760M parameters and more; the paper's fits of single sizes, smallest first:
BY_SIZE = {"50M": -0.70, "125M": -0.65, "350M": -0.38, "760M": -0.32, "1.3B": -0.32, "2.7B": -0.42}
LONGEST_FITTED = 204_800
FEW = 0.5  # % of the loss

here = replications.read("token_horizon")
runs = here.runs()
widths = sorted(runs["width"].unique())
longest = runs["tokens"].max()
runs.groupby(["width", "tokens"]).agg(
    runs=("lr", "size"), seeds=("seed", "nunique"), lowest=("lr", "min"), highest=("lr", "max")
)


# %% [markdown]
# **What was measured.** A valley a horizon and width, each with its own full schedule.


# %%
def law_of(table: pd.DataFrame, draws: int = 1000) -> laws.Laws:
    """The laws of one width's best learning rate in tokens."""
    return laws.study(table[known], scales=["tokens"], draws=draws)


known = list(replications.for_laws(runs))
every = laws.study(runs[known])
plots.valleys(every, runs[known])

# %%
plots.optimum_against_scale(every)

# %% [markdown]
# **How fast it falls**, by each horizon's own optimum and a power law of them, over all horizons and over the shorter
# and the longer half of them; and whether the law of the shorter horizons knows the longest one's.

# %%
findings, seen = [], {}
for width in widths:
    own = at(runs, width=width)
    middle = sorted(own["tokens"].unique())[own["tokens"].nunique() // 2]
    parts = {
        "all horizons": own,
        "up to the middle one": own[own["tokens"] <= middle],
        "from the middle one on": own[own["tokens"] >= middle],
    }
    for what, part in parts.items():
        e = law_of(part).groups[0].lr_fits["power"].estimates["tokens"]
        name = f"width {width:g}, exponent of the best lr in tokens, {what}"
        findings.append(Finding(name=name, value=e.value, low=e.low, high=e.high, n=len(part)))
        if part is own:
            seen[width] = findings[-1]

# %%
lost, copied = {}, {}
for width in widths:
    own = at(runs, width=width)
    fitted = law_of(own[own["tokens"] <= LONGEST_FITTED]).groups[0]
    predicted = fitted.lr_fits["power"].predict(tokens=longest)
    carried = next(o for o in fitted.optima if o.scale["tokens"] == LONGEST_FITTED)
    there = at(own, tokens=longest)
    loss = replications.tuned(there, along="tokens")["loss_nats"].iloc[0]
    for into, lr, what in (
        (lost, predicted.value, "the law's lr"),
        (copied, carried.lr, "the longest fitted one's lr"),
    ):
        nats = replications.regret(there, lr, name=f"width {width:g}, lost at {longest:,.0f} tokens with {what}")
        share = [100 * value / loss for value in (nats.value, nats.low, nats.high)]
        into[width] = Finding(
            name=nats.name, value=share[0], low=share[1], high=share[2], unit="% of the loss", n=nats.n
        )
        findings.append(into[width])
    judge = next(o for o in law_of(own).groups[0].optima if o.scale["tokens"] == longest)
    findings.append(
        Finding(name=f"width {width:g}, best lr at {longest:,.0f} tokens", value=judge.lr, low=judge.lr_low,
                high=judge.lr_high, n=judge.n_runs)
    )  # fmt: skip
    findings.append(
        Finding(name=f"width {width:g}, what the law of up to {LONGEST_FITTED:,} tokens says it is",
                value=predicted.value, low=predicted.low, high=predicted.high, n=fitted.n_runs)
    )  # fmt: skip

# %% [markdown]
# **Beside what was published.** The headline exponent is of the larger networks; the paper's smallest fell faster.

# %%
shown = {f"here, width {width:g}": seen[width].number for width in widths}
pd.Series(shown | {f"published, {size}": f"{value:g}" for size, value in BY_SIZE.items()}, name="exponent").to_frame()

# %%
falls = [seen[width].below(0.0) for width in widths]
as_published = [seen[width].low <= PUBLISHED <= seen[width].high for width in widths]
predicts = [lost[width].value < FEW for width in widths]
if all((*falls, *as_published, *predicts)):
    agreement = Agreement.HOLDS
elif any(falls):
    agreement = Agreement.IN_PART
else:
    agreement = Agreement.DOES_NOT
exponents = " and ".join(f"{seen[w].value:.2f} [{seen[w].low:.2f}, {seen[w].high:.2f}]" for w in widths)
at_widths = " and ".join(f"{width:g}" for width in widths)
sentence = (
    f"the best learning rate goes as tokens to the power {exponents} at widths {at_widths},"
    f" over a factor of {longest / runs['tokens'].min():g} in tokens; at {longest / LONGEST_FITTED:g} times the longest"
    f" horizon fitted the law loses {max(each.value for each in lost.values()):.2f} % at most, the rate carried over"
    f" unchanged {max(each.value for each in copied.values()):.2f} %"
)
display(Markdown(replications.conclude(here, agreement=agreement, seen=sentence, findings=findings)))
