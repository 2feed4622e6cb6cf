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
# # What is repeated data worth, and how much weight decay does it need?
#
# arXiv:2305.16264 finds that four epochs are nearly as good as new data and that the worth of repeats then decays;
# arXiv:2509.14786 that with many epochs the best weight decay is far larger than usual. The rule of the verdict stands
# in `sweeps/repeated_data/LOG.md`. The runs:
#
#     sweeps/replicate.sh repeated_data

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import fit
from scalelab.laws.forms import published
from scalelab.replications import Agreement

here = replications.read("repeated_data")
runs = here.runs()
runs["epochs"] = (runs["tokens"] / runs["unique_tokens"]).round().astype(int)
decays = runs[runs["part"].str.startswith("decay_")].reset_index(drop=True)
epochs = runs[~runs["part"].str.startswith("decay_")].reset_index(drop=True)
NEGLIGIBLE_PERCENT, FEW = 1.0, 4

# %% [markdown]
# **Repeats beside new data**, at one learning rate and weight decay. A line is a number of unique tokens; `new` has as
# many as it has tokens.

# %%
epochs["unique"] = epochs["unique_tokens"].map("{:,}".format).where(epochs["part"] != "new", "new")
panels = {
    f"width {width}": table.groupby(["tokens", "unique"])["loss_nats"].mean().unstack("unique")
    for width, table in epochs.groupby("width")
}
plots.lines(panels, x="tokens", y="loss (nats/token)")

# %%
new = epochs[epochs["part"] == "new"]
repeated = epochs[epochs["part"] != "new"]
rows = []
for (width, unique, tokens), table in repeated.groupby(["width", "unique_tokens", "tokens"]):
    beside = replications.at(new, width=width, tokens=tokens)
    of_new = 100 / beside["loss_nats"].mean()
    percent = [each.assign(percent=each["loss_nats"] * of_new) for each in (table, beside)]
    times = int(tokens / unique)
    said = f"width {width}, {unique:,} unique tokens, {times} epochs: loss above new"
    found = replications.gap(*percent, column="percent", unit="%", name=said)
    by_seed = of_new * (table.set_index("seed")["loss_nats"] - beside.set_index("seed")["loss_nats"])
    rows.append({"width": width, "unique_tokens": unique, "epochs": times, "finding": found, "% above new": found.value,
                 "by seed": by_seed})  # fmt: skip
beyond = pd.DataFrame(rows)
display(beyond.pivot(index=["width", "unique_tokens"], columns="epochs", values="% above new").round(2))
four = list(beyond[beyond["epochs"] == FEW]["finding"])
each_seed = pd.concat(list(beyond[beyond["epochs"] == FEW]["by seed"]), axis=1).mean(axis=1)
pooled = replications.over_seeds(
    each_seed, name="4 epochs, mean of all widths and unique tokens: loss above new", unit="%", n=sum(x.n for x in four)
)
if all(each.below(NEGLIGIBLE_PERCENT) for each in four):
    few = Agreement.HOLDS
else:
    few = Agreement.DOES_NOT if all(each.above(NEGLIGIBLE_PERCENT) for each in four) else Agreement.IN_PART

# %% [markdown]
# **The law of repeats**, fitted to these runs, beside one in which repeats do harm that grows. R_D is the number of
# repeats over which the worth of a token falls to 1/e.

# %%
seen_as = {name: fit(epochs.drop(columns="unique"), name, draws=400) for name in ("muennighoff", "repeat_penalty")}
paper = published("muennighoff/c4").parameters["R_D"]
estimate = seen_as["muennighoff"].estimates["R_D"]
R_D = replications.Finding(
    name="R_D of Muennighoff's law", value=estimate.value, low=estimate.low, high=estimate.high, unit="repeats",
    n=len(epochs),
)  # fmt: skip
moderate = epochs[epochs["epochs"] <= 8].drop(columns="unique").reset_index(drop=True)
estimate_8 = fit(moderate, "muennighoff", draws=400).estimates["R_D"]
R_D_8 = replications.Finding(
    name="R_D without runs of more than 8 epochs", value=estimate_8.value, low=estimate_8.low, high=estimate_8.high,
    unit="repeats", n=len(moderate),
)  # fmt: skip
if estimate.contains(paper):
    worth = Agreement.HOLDS if estimate.high < 100 else Agreement.UNDECIDED
else:
    worth = Agreement.DOES_NOT
rms = {
    name: replications.Finding(
        name=f"{name}: rms of its residuals in log loss", unit="%", n=len(epochs),
        value=100 * (2 ** pd.Series(law.residuals) - 1).pow(2).mean() ** 0.5,
    )
    for name, law in seen_as.items()
}  # fmt: skip
for law in seen_as.values():
    display(pd.DataFrame({name: vars(each) for name, each in law.estimates.items()}).T[["value", "low", "high"]])
    display(Markdown("; ".join(law.warnings)))

# %% [markdown]
# **Weight decay**, over the same number of tokens in few or many epochs.

# %%
losses = decays.groupby(["weight_decay", "epochs"])["loss_nats"].mean().unstack("epochs")
display(plots.lines({"epochs": losses}, x="weight_decay", y="loss (nats/token)"))
best = replications.vertices(decays, over="weight_decay", by=["epochs", "seed"]).unstack("seed")
n = {times: len(table) for times, table in decays.groupby("epochs")}
optima = [
    replications.over_seeds(best.loc[times], name=f"best weight decay, epochs: {times}", n=n[times], ratio=True)
    for times in best.index
]
most = best.index.max()
times_one = best.loc[most] / best.loc[1]
ratio = replications.over_seeds(
    times_one, name=f"best at {most} epochs over best at one", n=n[most] + n[1], unit="times", ratio=True
)
lost = replications.carried(
    decays[decays["epochs"].isin([1, most])], along="epochs", over="weight_decay",
    name=f"one epoch's best weight decay at {most} epochs",
)  # fmt: skip
if ratio.above(1.0):
    decay = Agreement.HOLDS if ratio.low < 30 < ratio.high else Agreement.IN_PART
else:
    decay = Agreement.DOES_NOT

# %% [markdown]
# **The verdict**, by the rule that was written before the runs.

# %%
answers = {few, worth, decay}
if answers == {Agreement.HOLDS}:
    agreement = Agreement.HOLDS
else:
    agreement = Agreement.IN_PART if answers & {Agreement.HOLDS, Agreement.IN_PART} else Agreement.DOES_NOT
least, worst = min(four, key=lambda each: each.value), max(four, key=lambda each: each.value)
seen = (
    f"four epochs end {least.value:.2f} to {worst.value:.2f} % above as many new tokens, {pooled.value:.2f}"
    f" [{pooled.low:.2f}, {pooled.high:.2f}] % in the mean ({few}); R_D = {R_D.value:.2g} [{R_D.low:.2g},"
    f" {R_D.high:.2g}] ({worth}; without runs of more than 8 epochs {R_D_8.value:.2g} [{R_D_8.low:.2g},"
    f" {R_D_8.high:.2g}]); at {most} epochs the best weight decay is {ratio.value:.1f} [{ratio.low:.1f},"
    f" {ratio.high:.1f}] times that of one epoch, whose own would lose {lost.value:.3f} nats there ({decay})"
)
Markdown(
    replications.conclude(
        here, agreement=agreement, seen=seen, findings=[*four, pooled, R_D, R_D_8, *rms.values(), *optima, ratio, lost]
    )
)
