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
# # Do learning rates layer by layer make every parametrization transfer, and must Adam's eps follow the width?
#
# Everett et al. (arXiv:2407.05872) derive a learning rate for each layer from how far updates align with activations,
# fully or not at all. SP then transfers as muP does and is better; and an eps that does not fall with the gradients
# hurts wide networks, which Adam-atan2 has none of:
#
#     sweeps/replicate.sh layerwise_exponents

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import study
from scalelab.replications import Agreement, at, carried, gap, slope, tuned
from scalelab.replications.excess import excess_by_seed

here = replications.read("layerwise_exponents")
runs = here.runs()
TABLES = ("sp_full", "mup_full", "sp_none", "mup_none")
TITLES = {
    "sp": "SP, one rate",
    "sp_full": "SP, full",
    "mup_full": "muP, full",
    "sp_none": "SP, none",
    "mup_none": "muP, none",
}
parts = {name: runs[runs["part"] == name] for name in runs["part"].unique()}
transfer = pd.concat([parts[name] for name in ("sp", "tables", "base")])
own = {name: at(transfer, parametrization=name) for name in TITLES}
smallest, largest = runs["width"].min(), runs["width"].max()
runs.groupby(["part", "parametrization", "width"])["lr"].agg(runs="count", lowest="min", highest="max")

# %% [markdown]
# **Where the best learning rate goes.** At the smallest width all tables are the same network.

# %%
known = replications.for_laws(transfer)
laws = study(known, theory={"width": 0})
plots.valleys(laws, known)

# %%
plots.optimum_against_scale(laws)

# %%
slopes = {name: slope(own[name], along="width", name=f"{title}: best lr") for name, title in TITLES.items()}
lost = {
    name: carried(
        own[name], along="width", name=f"{title}: lost at width {largest:g} by the best lr of width {smallest:g}"
    )
    for name, title in TITLES.items()
}
pd.concat({TITLES[name]: tuned(own[name], along="width") for name in TITLES}, names=["table"])

# %% [markdown]
# **Which is best where it was tuned?** At the largest width, by the mean of the seeds.

# %%
bests = {}
for name in TITLES:
    wide = at(own[name], width=largest)
    bests[name] = at(wide, lr=tuned(wide, along="width")["lr"].item())
means = {name: float(rows["loss_nats"].mean()) for name, rows in bests.items()}
sp, mup = (min(two, key=means.get) for two in (("sp_full", "sp_none"), ("mup_full", "mup_none")))
beside = {
    "mup": gap(bests[sp], bests[mup], name=f"at width {largest:g}, each tuned: {TITLES[sp]} minus {TITLES[mup]}"),
    "sp": gap(bests[sp], bests["sp"], name=f"at width {largest:g}, each tuned: {TITLES[sp]} minus {TITLES['sp']}"),
}
display(Markdown("; ".join(f"{TITLES[name]} {loss:.4f}" for name, loss in means.items()) + " nats."))

# %% [markdown]
# **eps.** What an optimizer loses beside Adam with the smallest eps, both at their best learning rate, at every width.

# %%
EPS = "hparams.eps"
small, large = runs[EPS].min(), runs[EPS].max()
plain = at(parts["eps"], **{EPS: small})
cases = {
    f"eps {eps:g}, the same at every width": at(parts["eps"], **{EPS: eps})
    for eps in sorted(parts["eps"][EPS].unique())[1:]
}
constant = f"eps {large:g}, the same at every width"
scaled, atan2 = f"eps {large:g}, moved by the table", "Adam-atan2"
cases |= {scaled: parts["eps_scaled"], atan2: parts["atan2"]}
excess = {name: excess_by_seed(rows, plain, along="width") for name, rows in cases.items()}
plots.lines(
    {"": pd.DataFrame({name: table.mean(axis=1) for name, table in excess.items()})},
    x="width",
    y="loss beside eps → 0 (nats/token)",
)

# %%
rise = {
    name: replications.over_seeds(
        excess[name].loc[largest] - excess[name].loc[smallest], n=len(cases[name]) + len(plain), unit="nats",
        name=f"{name}: how much more it loses at width {largest:g} than at {smallest:g}",
    )
    for name in cases
}  # fmt: skip
none = replications.over_seeds(
    excess[atan2].loc[largest], name=f"Adam-atan2 minus Adam with eps {small:g} at width {largest:g}", unit="nats",
    n=len(at(cases[atan2], width=largest)) + len(at(plain, width=largest)),
)  # fmt: skip

# %% [markdown]
# **The rule**, as LOG.md states it.

# %%
limit = 0.01 * means[mup]
transfers = {name: lost[name].below(limit) and lost[name].value < lost["sp"].low for name in TABLES}
shown = {
    "transfer": any(transfers[f"sp_{word}"] and transfers[f"mup_{word}"] for word in ("full", "none")),
    "SP as good as muP": beside["mup"].below(limit),
    "eps": rise[constant].above(0.0) and not rise[scaled].above(0.0),
    "Adam-atan2": none.within(limit),
}
if all(shown.values()):
    agreement = Agreement.HOLDS
elif any(shown.values()):
    agreement = Agreement.IN_PART
else:
    agreement = Agreement.DOES_NOT
missing = [name for name, is_shown in shown.items() if not is_shown]
seen = (
    f"Carried from width {smallest:g} to {largest:g} the best learning rate loses {lost['sp'].value:.3f} nats under SP,"
    f" {lost['sp_full'].value:.3f} and {lost['mup_full'].value:.3f} with layerwise rates (SP, muP; full alignment),"
    f" {lost['sp_none'].value:.3f} and {lost['mup_none'].value:.3f} (none); {TITLES[sp]} minus {TITLES[mup]}"
    f" {beside['mup'].number}; an eps of {large:g} loses {rise[constant].number} more at the larger, moved by the table"
    f" {rise[scaled].value:.3f}, Adam-atan2 is {none.number} off"
    + (f"; not shown: {', '.join(missing)}." if missing else ".")
)
findings = [*slopes.values(), *lost.values(), *beside.values(), *rise.values(), none]
Markdown(replications.conclude(here, agreement=agreement, seen=seen, findings=findings))
