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
# # How should weight decay move with width, and what does it trade against the learning rate?
#
# Under AdamW weights forget their start within some steps of 1/(lr·λ), and then their size is a balance of updates and
# decay. arXiv:2510.15262 finds that under muP λ ∝ √width keeps the largest singular values, and with them the best
# base decay; arXiv:2509.25049 that late in training loss curves depend on lr·λ alone. The rule of the verdict stands in
# `sweeps/weight_decay/LOG.md`. The runs:
#
#     sweeps/replicate.sh weight_decay

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.replications import Agreement

here = replications.read("weight_decay")
runs = here.runs()
spectra = here.frame("spectra.csv")
curves = here.frame("curves.csv")
EXPONENT = {"constant": 0.0, "root_width": 0.5, "independent": 1.0}  # of λ ∝ width^p on hidden matrices

# %% [markdown]
# **Singular values.** The largest of every kind of matrix in the blocks, at the end of runs of several times
# 1/(lr·λ), at a constant learning rate that muP's table scales.

# %%
blocks = spectra[spectra["matrix"].str.startswith("blocks.")].sort_values("width")
shown = blocks.groupby(["weight_decay_policy", "width"])["top"].mean().unstack("weight_decay_policy")
plots.lines({"largest singular value": shown}, x="width", y="mean over matrices and seeds")

# %%
powers = replications.powers(blocks, of="top", along="width", by=["weight_decay_policy", "seed"]).unstack("seed")
n = len(blocks[["weight_decay_policy", "width", "seed"]].drop_duplicates())
slopes = {
    policy: replications.over_seeds(powers.loc[policy], name=f"{policy}: σ1 ∝ width^s, s", n=n // len(EXPONENT))
    for policy in EXPONENT
}
kept_by = powers.loc[list(EXPONENT)].apply(lambda each: replications.crossing(list(EXPONENT.values()), list(each)))
exponent = replications.over_seeds(kept_by, name="p of λ ∝ width^p that keeps σ1", n=n)
top_yes = exponent.above(0.0) and exponent.below(1.0) and not (exponent.above(0.5) or exponent.below(0.5))
top_no = exponent.above(0.5) or exponent.below(0.5)
kinds = replications.powers(blocks, of="top", along="width", by=["matrix", "weight_decay_policy"])
kinds.unstack("weight_decay_policy")[list(EXPONENT)].round(2)

# %% [markdown]
# **The best base decay.** Loss against the decay at the base width; the policy moves it from there. Where the valley's
# bottom stays, the policy transfers.

# %%
swept = {
    policy: runs[runs["part"].isin([policy, f"{policy}_wide"])].reset_index(drop=True)
    for policy in ("root_width", "independent")
}
valleys = {
    policy: table.groupby(["weight_decay", "width"])["loss_nats"].mean().unstack("width").add_prefix("width ")
    for policy, table in swept.items()
}
plots.lines(valleys, x="weight_decay", y="loss (nats/token)")


# %%
def best(policy: str, said: str = "", joint: bool = True) -> replications.Finding:
    """The same valley fit as of learning rates, of the decay in their place."""
    of_decay = swept[policy].assign(lr=swept[policy]["weight_decay"]).drop(columns="weight_decay")
    return replications.slope(of_decay, along="width", name=f"{policy}: best base decay{said}", joint=joint)


moved = {policy: best(policy) for policy in swept}
apart = {policy: best(policy, said=", each width's own valley", joint=False) for policy in swept}
lost = [
    replications.carried(table, along="width", over="weight_decay", name=f"{policy}: narrowest's best decay at widest")
    for policy, table in swept.items()
]
stays = {policy: not (each.above(0.0) or each.below(0.0)) for policy, each in moved.items()}
between = moved["root_width"].above(0.0) and moved["independent"].below(0.0)
display(replications.tuned(swept["root_width"], along="width", over="weight_decay"))
display(replications.tuned(swept["independent"], along="width", over="weight_decay"))

# %% [markdown]
# **Trajectories.** Curves of one width with the same lr·λ at other learning rates, and with the same learning rate at
# other lr·λ.

# %%
points = [name for name in curves.columns if name.startswith("train_loss_")]
curves["lr_decay"] = (curves["lr"] * curves["weight_decay"]).round(9)
curves["tokens seen"] = curves["tokens"] // len(points)
drawn = curves.groupby(["lr_decay", "lr"])[points].mean().T
drawn.index = (pd.Series(range(1, len(points) + 1)) * curves["tokens seen"].iloc[0]).to_list()
smallest, largest = curves["lr_decay"].min(), curves["lr_decay"].max()
panels = {f"lr·λ = {each:g}": drawn[each].add_prefix("lr ") for each in (smallest, largest)}
plots.lines(panels, x="tokens", y="training loss (nats/token)")

# %%
quarter = len(points) // 4
nearer = {}
for name, part in (("first", points[:quarter]), ("last", points[-quarter:])):
    product = replications.distances(curves, part, same="lr_decay", other="lr")
    rate = replications.distances(curves, part, same="lr", other="lr_decay")
    nearer[name] = replications.over_seeds(
        product - rate, name=f"{name} quarter: gap at equal lr·λ minus gap at equal lr", unit="nats", n=len(curves)
    )
gaps = [
    replications.over_seeds(each, name=f"last quarter: gap at equal {said}", unit="nats", n=len(curves))
    for said, each in (("lr·λ", product), ("lr", rate))
]

# %% [markdown]
# **The verdict**, by the rule that was written before the runs.

# %%
top = Agreement.HOLDS if top_yes else Agreement.DOES_NOT if top_no else Agreement.UNDECIDED
if stays["root_width"] and not stays["independent"]:
    decay = Agreement.HOLDS
elif stays["independent"] and not stays["root_width"]:
    decay = Agreement.DOES_NOT
else:
    decay = Agreement.IN_PART if between else Agreement.UNDECIDED
if nearer["last"].below(0.0):
    trajectory = Agreement.HOLDS if nearer["first"].above(0.0) else Agreement.IN_PART
else:
    trajectory = Agreement.DOES_NOT if nearer["last"].above(0.0) else Agreement.UNDECIDED
answers = {top, decay, trajectory}
if answers == {Agreement.HOLDS}:
    agreement = Agreement.HOLDS
elif answers & {Agreement.HOLDS, Agreement.IN_PART}:
    agreement = Agreement.IN_PART
else:
    agreement = Agreement.DOES_NOT if Agreement.DOES_NOT in answers else Agreement.UNDECIDED
seen = (
    f"widths {spectra['width'].min()} to {spectra['width'].max()}: λ ∝ width^{exponent.value:.2f}"
    f" [{exponent.low:.2f}, {exponent.high:.2f}] keeps σ1 (½: {top}); widths {swept['root_width']['width'].min()} to"
    f" {swept['root_width']['width'].max()}: the best base decay moves by {moved['root_width'].value:+.2f}"
    f" [{moved['root_width'].low:+.2f}, {moved['root_width'].high:+.2f}] octaves a doubling under root_width and"
    f" {moved['independent'].value:+.2f} [{moved['independent'].low:+.2f}, {moved['independent'].high:+.2f}] with lr·λ"
    f" constant ({decay}); by each width's own valley {apart['root_width'].value:+.2f}"
    f" [{apart['root_width'].low:+.2f}, {apart['root_width'].high:+.2f}] and {apart['independent'].value:+.2f}"
    f" [{apart['independent'].low:+.2f}, {apart['independent'].high:+.2f}]; in the last"
    f" quarter curves of equal lr·λ lie {gaps[0].value:.3f} nats apart, of equal lr"
    f" {gaps[1].value:.3f} ({trajectory})"
)
findings = [exponent, *slopes.values(), *moved.values(), *apart.values(), *lost, *gaps, *nearer.values()]
Markdown(replications.conclude(here, agreement=agreement, seen=seen, findings=findings))
