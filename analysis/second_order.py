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
# # Do matrix-preconditioned optimizers keep their learning rate, and their gain, as width grows?
#
# Muon, Shampoo and SOAP on the matrices of the blocks, AdamW on all else; under muP, and at the same rates at every
# width (SP).
#
#     scalelab train -m +sweep=second_order/proxy_muon    # and the other parts: sweeps/replicate.sh second_order

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import study
from scalelab.laws.columns import PARAMS
from scalelab.replications import Agreement, at, carried, conclude, gap, slope, stays, tuned

here = replications.read("second_order")
runs = here.runs()
NAMES = {"adamw": "AdamW", "muon": "Muon", "shampoo": "Shampoo", "soap": "SOAP"}
CASES = list(runs[["optimizer", "parametrization"]].drop_duplicates().itertuples(index=False, name=None))
of = {case: at(runs, optimizer=case[0], parametrization=case[1]) for case in CASES}
runs.groupby(["optimizer", "parametrization", "width"])["lr"].agg(runs="count", lowest="min", highest="max")

# %% [markdown]
# **What was measured.** A valley a width, a panel an optimizer and table.

# %%
known = replications.for_laws(runs, without=PARAMS)
laws = study(known, theory={"width": 0}, scales=["width"])
plots.valleys(laws, known)

# %% [markdown]
# **Does the optimum stay?** It *stays* if its slope is less than a quarter of an octave a doubling of width and the
# whole interval within half an octave; it *drifts* if the slope is at least a quarter and the interval leaves out zero.

# %%
moved = {case: slope(own, along="width", name=f"{NAMES[case[0]]}, {case[1]}: best lr") for case, own in of.items()}
lost = [carried(own, along="width", name=f"{NAMES[case[0]]}, {case[1]}: lost by carrying") for case, own in of.items()]
plots.forest(
    {
        "mup": [each for case, each in moved.items() if case[1] == "mup"],
        "sp": [each for case, each in moved.items() if case[1] == "sp"],
        "others": [each for case, each in moved.items() if case[1] not in ("mup", "sp")],
    },
    x="octaves that the best lr moves a doubling of width",
    marks=(-0.25, 0.0, 0.25),
)

# %%
best = {case: tuned(own, along="width") for case, own in of.items()}
pd.concat([found.assign(optimizer=case[0], parametrization=case[1]) for case, found in best.items()])

# %% [markdown]
# **Does the gain over AdamW stay?** Each at its own best learning rate of each width, under muP, seed by seed; and at
# the widest with the narrowest's best rate under SP, beside AdamW tuned there.

# %%
WIDTHS = sorted(runs["width"].unique())


def at_best(optimizer, parametrization, width, chosen_at=None):
    found = best[optimizer, parametrization].set_index("width")
    rate = found.loc[width if chosen_at is None else chosen_at, "lr"]
    return at(of[optimizer, parametrization], width=width, lr=rate)


gains = {
    (name, width): gap(
        at_best("adamw", "mup", width), at_best(name, "mup", width), name=f"gain of {NAMES[name]} at width {width:g}"
    )
    for name in ("muon", "shampoo", "soap")
    for width in WIDTHS
}
mistaken = {
    name: gap(
        at_best("adamw", "mup", WIDTHS[-1]),
        at_best(name, "sp", WIDTHS[-1], chosen_at=WIDTHS[0]),
        name=f"gain of {NAMES[name]} at width {WIDTHS[-1]:g}, rate carried under sp",
    )
    for name in ("muon", "shampoo")
}
transferred = gap(
    at_best("adamw", "mup", WIDTHS[-1]),
    at_best("muon", "mup", WIDTHS[-1], chosen_at=WIDTHS[0]),
    name=f"gain of Muon at width {WIDTHS[-1]:g}, rate carried under mup",
)
table = pd.DataFrame(
    {NAMES[name]: {width: gains[name, width].value for width in WIDTHS} for name in NAMES if name != "adamw"}
)
plots.lines({"tuned at each width, muP": table}, x="width", y="gain over AdamW (nats/token)")

# %% [markdown]
# **The verdict**: seven statements, each true, false or not decided.

# %%
first, last = gains["muon", WIDTHS[0]], gains["muon", WIDTHS[-1]]


def drifts(case):
    answer = stays(moved[case])
    return None if answer is None else not answer


def gone():
    half = last.value / 2
    return True if mistaken["muon"].below(half) else False if mistaken["muon"].above(half) else None


def kept():
    if last.value >= first.value / 2 and last.above(0):
        return True
    return False if last.below(first.value / 2) else None


statements = {
    **{f"{NAMES[name]} stays under muP": stays(moved[name, "mup"]) for name in ("muon", "shampoo", "soap")},
    **{f"{NAMES[name]} drifts under SP": drifts((name, "sp")) for name in ("muon", "shampoo")},
    "Muon's gain stays": kept(),
    "Muon's gain is gone at SP's carried rate": gone(),
}
true, false = ([name for name, answer in statements.items() if answer is which] for which in (True, False))
if len(true) + len(false) < len(statements) / 2:
    agreement = Agreement.UNDECIDED
elif len(true) == len(statements):
    agreement = Agreement.HOLDS
else:
    agreement = Agreement.DOES_NOT if len(false) > len(true) else Agreement.IN_PART
rates = ", ".join(f"{NAMES[name]} {moved[name, table].value:+.2f} ({table})" for name, table in moved)
sentence = (
    f"of {len(statements)} statements {len(true)} are true and {len(false)} false ({'; '.join(false) or 'none'}); from"
    f" width {WIDTHS[0]:g} to {WIDTHS[-1]:g} the best lr moves, in octaves a doubling: {rates}; Muon's gain over AdamW"
    f" is {first.number} at width {WIDTHS[0]:g} and {last.number} at {WIDTHS[-1]:g},"
    f" {mistaken['muon'].number} there with the rate carried under SP, {transferred.number} with it carried under muP"
)
display(pd.Series(statements))
findings = [*moved.values(), *lost, *gains.values(), *mistaken.values(), transferred]
display(Markdown(conclude(here, agreement=agreement, seen=sentence, findings=findings)))
