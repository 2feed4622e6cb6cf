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
# # Instabilities: what lowers the sensitivity to the learning rate, and can they be seen coming?
#
# Large transformers fail at learning rates that small ones bear. The paper shows that small ones fail in the same ways
# at higher learning rates, that QK norm, z-loss and a long warm-up help, and that the growth of attention logits with
# size says which learning rate will be unstable at the next size.
#
#     sweeps/replicate.sh instabilities    # scalelab train -m +sweep=instabilities/proxy_…; scalelab check --stability

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws.sensitivity import lr_sensitivity
from scalelab.probe.slopes import trend
from scalelab.replications import Agreement, Finding, at, conclude, gap, over_seeds, separating

here = replications.read("instabilities")
runs, norms = here.runs(), here.frame("norms.csv")
LOGITS, BYTES, NEXT, UNSTABLE_NATS = "max attention logit", 5.545, "next", 0.25
CHANGED = {
    "architecture.qk_norm": False, "hparams.z_loss": 0.0, "horizon.warmup_fraction": 0.1, "parametrization": "sp",
}  # fmt: skip
plain, normed = CHANGED, {**CHANGED, "architecture.qk_norm": True}
VARIANTS = {
    "plain": plain,
    "QK norm": normed,
    "z-loss 1e-4": {**normed, "hparams.z_loss": 1e-4},
    "z-loss 1e-2": {**normed, "hparams.z_loss": 1e-2},
    "warm-up 0.02": {**normed, "horizon.warmup_fraction": 0.02},
    "warm-up 0.3": {**normed, "horizon.warmup_fraction": 0.3},
    "muP": {**normed, "parametrization": "mup"},
}
proxies = runs[runs["part"] != NEXT]
of = {name: at(proxies, **values) for name, values in VARIANTS.items()}
pd.DataFrame({name: table.groupby("width").size() for name, table in of.items()})

# %% [markdown]
# **What was measured.** The mean loss against the learning rate, a panel a width; what diverged learned nothing.

# %%
learned = {
    name: table.assign(loss_nats=table["loss_nats"].fillna(BYTES).clip(upper=BYTES)) for name, table in of.items()
}
curves = {
    f"width {width}": pd.DataFrame(
        {name: at(table, width=width).groupby("lr")["loss_nats"].mean() for name, table in learned.items()}
    )
    for width in sorted(proxies["width"].unique())
}
plots.lines(curves, x="lr", y="loss, nats")

# %% [markdown]
# **Sensitivity**, by the paper's formula, for every width and seed; and what each change makes of it.

# %%
sensitivity = {}
for name, table in of.items():
    found = lr_sensitivity(table, initial_loss_nats=BYTES, by=["width", "seed"])
    sensitivity[name] = pd.DataFrame([{**each.scale, "nats": each.nats, "diverged": each.diverged} for each in found])
display(pd.DataFrame({name: table.groupby("width")["nats"].mean() for name, table in sensitivity.items()}).T)


# %%
def changed(name, to, beside):
    paired = [
        sensitivity[each].assign(seed=lambda table: table["width"].astype(str) + "/" + table["seed"].astype(str))
        for each in (to, beside)
    ]
    return gap(*paired, name=f"sensitivity: {name}", column="nats")


COMPARED = {
    "QK norm": ("QK norm − none", "QK norm", "plain"),
    "z-loss": ("z-loss 1e-4 − none, with QK norm", "z-loss 1e-4", "QK norm"),
    "a longer warm-up": ("warm-up of 0.3 − of 0.02, with QK norm", "warm-up 0.3", "warm-up 0.02"),
    "a stronger z-loss": ("z-loss 1e-2 − none, with QK norm", "z-loss 1e-2", "QK norm"),
    "muP": ("muP − SP, with QK norm", "muP", "QK norm"),
}
CLAIMED = tuple(COMPARED)[:3]
effects = {name: changed(*pair) for name, pair in COMPARED.items()}

# %% [markdown]
# **Seen coming?** A learning rate above the best one is unstable where it loses more than a quarter of a nat. The
# attention logit that separates unstable from stable ones at the smaller widths is the threshold; the logit at the next
# width is extrapolated for each learning rate.

# %%
trained = pd.concat([of["plain"], runs[runs["part"] == NEXT]])
trained = trained.assign(loss_nats=trained["loss_nats"].fillna(BYTES).clip(upper=BYTES))
losses = trained.groupby(["width", "lr"])["loss_nats"].mean().unstack("width")
above = losses.apply(lambda column: column.index > column.idxmin())
unstable = (losses - losses.min() > UNSTABLE_NATS) & above
logits = norms.groupby(["lr", "width"])[LOGITS].apply(lambda seeds: seeds.prod() ** (1 / len(seeds))).unstack("width")
plots.lines({"largest attention logit of a run": logits.T}, x="width", y="logit")

# %%
*small, large = sorted(logits.columns)
cells = [(logits.loc[lr, width], unstable.loc[lr, width]) for lr in logits.index for width in small]
threshold = separating(*zip(*cells, strict=True))
rows = []
for lr in logits.index:
    seeds = norms[norms["lr"] == lr].pivot_table(index="width", columns="seed", values=LOGITS)
    line = trend(small, seeds.loc[small].to_numpy(), large)
    rows.append({
        "lr": lr, "predicted logit": line.at_target.value, "measured": logits.loc[lr, large],
        "exponent": line.exponent.value, "predicted unstable": line.at_target.value > threshold,
        "unstable": unstable.loc[lr, large], "unstable one width below": unstable.loc[lr, small[-1]],
    })  # fmt: skip
seen = pd.DataFrame(rows).set_index("lr")
display(seen)
rated, right = len(seen), int((seen["predicted unstable"] == seen["unstable"]).sum())
naive = int((seen["unstable one width below"] == seen["unstable"]).sum())
of_them = f"learning rates of {rated} whose stability at width {large} is"
foreseen = [
    Finding(name=f"{of_them} as extrapolated logits say", value=right, n=rated),
    Finding(name=f"{of_them} as one width below", value=naive, n=rated),
    Finding(name="attention logit from which runs are unstable", value=threshold, n=len(cells)),
    over_seeds(
        seen["measured"] / seen["predicted logit"], ratio=True, n=rated,
        name=f"measured by predicted attention logit at width {large}, over learning rates",
    ),
]  # fmt: skip

# %% [markdown]
# **The verdict**: four statements, each borne out, contradicted, or not decided.

# %%
claimed = [effects[name] for name in CLAIMED]
statements = [(each.below(0), each.above(0)) for each in claimed] + [(right == rated, right < rated)]
agreement = Agreement.of(statements)
changes = ", ".join(f"by {effects[name].number} with {name}" for name in CLAIMED)
sentence = (
    f"the sensitivity changes {changes}; extrapolated attention logits say rightly of {right} of {rated} learning rates"
    f" whether width {large} is stable, the width below itself of {naive}"
)
display(Markdown(conclude(here, agreement=agreement, seen=sentence, findings=[*effects.values(), *foreseen])))
