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
# # Which variations of a transformer break muP's transfer?
#
# A muP transformer without trainable gains, changed in one thing at a time. Of each change the best learning rate is
# found at several widths: does it stay?
#
#     scalelab train -m +sweep=variations/proxy    # and the table and this page: sweeps/replicate.sh variations

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.replications import Agreement, at, carried, conclude, slope, stays, tuned

here = replications.read("variations")
runs = here.runs()
BREAK = ["vector_gains", "scalar_gains", "lion", "coupled_decay", "sp_attention"]  # as the paper has it
KEEP = ["baseline", "biases", "swiglu", "squared_relu", "zero_query", "sp_readout", "cosine", "batch_quarter"]
KEEP += ["batch_four", "multi_query", "independent_decay", "tied"]
of = {name: at(runs, part=name) for name in BREAK + KEEP}
of["independent_decay"] = of["independent_decay"].assign(weight_decay=0.0)  # lr × weight decay is what is constant
runs.groupby(["part", "width"])["lr"].agg(runs="count", lowest="min", highest="max")

# %% [markdown]
# **What was measured.** The mean loss of the seeds against the learning rate, a line a width.

# %%
means = {name: own.pivot_table(index="lr", columns="width", values="loss_nats") for name, own in of.items()}
plots.lines(means, x="lr", y="loss (nats/token)")

# %% [markdown]
# **Does the optimum stay?** Its slope by fitted valleys. It *stays* if the slope is less than a quarter of an octave a
# doubling and the whole interval within half an octave; it *moves* if the slope is at least a quarter and the interval
# leaves out zero; else it is not decided.

# %%
moved = {name: slope(own, along="width", name=name) for name, own in of.items()}
lost = {name: carried(own, along="width", name=f"{name}: lost by carrying") for name, own in of.items()}
plots.forest(
    {"breaks in the paper": [moved[name] for name in BREAK], "does not": [moved[name] for name in KEEP]},
    x="octaves that the best lr moves a doubling of width",
    marks=(-0.25, 0.0, 0.25),
)

# %% [markdown]
# **Variation by variation**, what the paper says and what is seen here. An optimum at the edge of its grid would be a
# bound and no optimum.

# %%
SAID = {True: "holds", False: "breaks", None: "undecided"}
seen = {name: stays(each) for name, each in moved.items()}
pd.DataFrame(
    [
        {
            "variation": name,
            "paper": "breaks" if name in BREAK else "holds",
            "here": SAID[seen[name]],
            "slope": moved[name].number,
            "lost by carrying": lost[name].number,
            "at an edge": int(tuned(of[name], along="width")["edge"].sum()),
        }
        for name in of
    ]
)

# %% [markdown]
# **The verdict**, by the rule that was said before the runs.

# %%
agrees = {name: None if seen[name] is None else seen[name] == (name in KEEP) for name in of}
right = [name for name in of if agrees[name]]
decided = [name for name in of if agrees[name] is not None]
if 2 * len(decided) < len(of):
    agreement = Agreement.UNDECIDED
elif right == decided and set(right) & set(BREAK):
    agreement = Agreement.HOLDS
else:
    agreement = Agreement.IN_PART if 2 * len(right) > len(decided) else Agreement.DOES_NOT


def among(names, answer):
    found = [name.replace("_", " ") for name in names if seen[name] is answer]
    return f"{len(found)} of {len(names)}" + f" ({', '.join(found)})" * (0 < len(found) < len(names))


sentence = (
    f"from width {runs['width'].min():g} to {runs['width'].max():g}, of the paper's {len(BREAK)} that break"
    f" {among(BREAK, False)} move, {among(BREAK, True)} stay and {among(BREAK, None)} are undecided; of the {len(KEEP)}"
    f" others, {among(KEEP, True)} stay, {among(KEEP, False)} move and {among(KEEP, None)} are undecided; the"
    f" baseline itself moves by {moved['baseline'].number}"
)
findings = [*moved.values(), *lost.values()]
display(Markdown(conclude(here, agreement=agreement, seen=sentence, findings=findings)))
