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
# # Are the best learning rate and batch a point in a convex bowl, and where does it go with scale?
#
# Step Law (arXiv:2503.04715) trains thousands of networks over learning rate and batch and finds a convex landscape
# with a broad bottom at every size N and horizon D, whose place follows power laws. Grids of both settings at three
# sizes and two horizons under SP, and at one larger and longer that is held out:
#
#     sweeps/replicate.sh lr_batch

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from scalelab import laws, plots, replications
from scalelab.replications import Agreement, Finding

PUBLISHED = {"lr ~ N": -0.713, "lr ~ D": 0.307, "batch ~ D": 0.571}
SURE, CONVEX_SHARE, FEW = 1.64, 0.9, 0.5  # standard deviations; of the triples; % of the loss
SCALE = ["params_non_embedding", "tokens"]

here = replications.read("lr_batch")
runs = here.runs()
known = list(replications.for_laws(runs))
held_out = runs["part"].isin(["held_out", "published"])
largest = {name: float(runs.loc[held_out, name].iloc[0]) for name in SCALE}
every = laws.study(runs[known], target=largest, compare=["step-law"])
fitted = laws.study(runs.loc[~held_out, known], target=largest, compare=["step-law"])
runs.groupby([*SCALE, "width"]).agg(runs=("lr", "size"), best=("loss_nats", "min"))

# %% [markdown]
# **What was measured.** Contours of the loss over the lowest; stars are each scale's own best setting, crosses those
# of the law that all share, diamonds what the published formula chooses.

# %%
formula = {name: laws.published(f"step_law_{name}/step_law") for name in ("lr", "batch")}
chosen = [
    {**cell.scale, "lr": formula["lr"].predict(params=cell.scale[SCALE[0]], tokens=cell.scale["tokens"]),
     "batch_tokens": formula["batch"].predict(tokens=cell.scale["tokens"])}
    for cell in every.groups[0].joint.cells
]  # fmt: skip
plots.landscapes(every, runs[known], chosen={"the published formula's": chosen})

# %% [markdown]
# **Is it convex?** Every three runs in line on the grids, along both settings and both diagonals; then a quadratic form
# a scale, with its smaller eigenvalue.

# %%
lines = replications.triples(runs[~held_out], by=SCALE)
convex = lines["second"] > -SURE * lines["sd"]
lines["line"] = lines["lr_steps"].astype(str) + " in lr, " + lines["batch_tokens_steps"].astype(str) + " in batch"
lines.assign(convex=convex, surely_convex=lines["second"] > SURE * lines["sd"], surely_not=~convex).groupby("line")[
    ["convex", "surely_convex", "surely_not"]
].mean()

# %%
# Those that are not: how high over the bottom their middles lie, in nats.
lines[~convex].sort_values("rise")[[*SCALE, "line", "second", "sd", "rise"]]

# %%
bowls = replications.bowls(runs, by=SCALE)
bowls.round(4)

# %% [markdown]
# **Where does the bottom go?** Power laws, in the paper's form, of each scale's own best setting.

# %%
group = fitted.groups[0]
n = int((~held_out).sum())
of_lr, of_batch = (laws.fit(runs[known], f"step_law_{name}") for name in ("lr", "batch"))
estimates = {
    "lr ~ N": of_lr.estimates["p_params"],
    "lr ~ D": of_lr.estimates["p_tokens"],
    "batch ~ D": of_batch.estimates["p_tokens"],
}
findings = [
    Finding(name=f"exponent, {name}, at each scale's best setting (published {PUBLISHED[name]:g})", value=e.value,
            low=e.low, high=e.high, n=len(runs))
    for name, e in estimates.items()
]  # fmt: skip
by_all = {
    "lr ~ batch, at a given horizon": "lr ~ batch_tokens",
    "lr ~ D, at a given batch": "lr ~ tokens",
    "batch ~ D": "batch_tokens ~ tokens",
}
for name, parameter in by_all.items():
    e = group.joint.estimates[parameter]
    mean, sd = group.joint.priors[parameter]
    name = f"exponent, {name}, the six smaller scales in one likelihood (prior {mean:g} ± {sd:g})"
    findings.append(Finding(name=name, value=e.value, low=e.low, high=e.high, n=n))
plots.optimum_against_batch(fitted)

# %% [markdown]
# **Does the law know the scale held out?** Every way of choosing was fitted to the smaller sizes alone.

# %%
plots.hold_outs(every)

# %%
scores = {score.method: score for score in every.groups[0].validation.scores}
for method in ("joint", "published step_law", "copy the largest trained"):
    lost, n_there = scores[method], int(held_out.sum())
    ((lr, batch),) = [(choice["lr"], choice["batch_tokens"]) for choice in lost.chosen]
    name = f"held out, lost by lr {lr:.2g} at a batch of {batch:.0f} ({method})"
    findings.append(Finding(name=name, value=lost.mean_percent, unit="% of the loss, by the valley there", n=n_there))
    if lost.measured_percent is not None:
        findings.append(
            Finding(name=name, value=lost.measured_percent, unit="% over the lowest mean of seeds there", n=n_there)
        )

# %%
of_fitted = bowls[bowls["tokens"] < largest["tokens"]]
each_n = n // len(of_fitted)
surely = lines["second"] > SURE * lines["sd"]
findings += [
    Finding(name="triples in line that are convex within noise", value=float(convex.mean()), n=len(lines)),
    Finding(name="triples in line that are convex beyond noise", value=float(surely.mean()), n=len(lines)),
]
flat = of_fitted.loc[of_fitted["curvature_low"].idxmin()]
findings.append(
    Finding(name="smaller eigenvalue of the quadratic form, at the scale where it is least sure",
            value=flat["curvature"], low=flat["curvature_low"], high=flat["curvature_high"],
            unit="nats per octave²", n=each_n)
)  # fmt: skip
for name in ("lr_octaves", "batch_tokens_octaves"):
    narrow, broad = (of_fitted.loc[found] for found in (of_fitted[name].idxmin(), of_fitted[name].idxmax()))
    for what, scale in (("narrowest", narrow), ("broadest", broad)):
        findings.append(
            Finding(name=f"range of {name.split('_')[0]} within 1 % of the best, {what} scale",
                    value=scale[name], low=scale[f"{name}_low"], high=scale[f"{name}_high"], unit="octaves", n=each_n)
        )  # fmt: skip

# %% [markdown]
# **The verdict**, by the rule that LOG.md states.

# %%
bowl = convex.mean() >= CONVEX_SHARE and (of_fitted["curvature_low"] > 0).all()
predicts = scores["joint"].mean_percent < FEW
agrees = {name: abs(e.high - e.low) < float("inf") and e.contains(PUBLISHED[name]) for name, e in estimates.items()}
opposite = [name for name, e in estimates.items() if (e.low > 0 if PUBLISHED[name] < 0 else e.high < 0)]
if bowl and predicts and all(agrees.values()):
    agreement = Agreement.HOLDS
elif opposite or not (bowl or predicts):
    agreement = Agreement.DOES_NOT
else:
    agreement = Agreement.IN_PART
powers = ", ".join(f"{name} {e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for name, e in estimates.items())
sentence = (
    f"{100 * convex.mean():.1f} % of {len(lines)} triples are convex within noise; exponents {powers}; at the scale"
    f" held out the law fitted here loses {scores['joint'].mean_percent:.2f} %, the published formula"
    f" {scores['published step_law'].mean_percent:.2f} %, choosing a batch of"
    f" {scores['published step_law'].chosen[0]['batch_tokens']:.0f} where the best is"
    f" {every.groups[0].validation.best[0]['batch_tokens']:.0f}"
)
display(Markdown(replications.conclude(here, agreement=agreement, seen=sentence, findings=findings)))
