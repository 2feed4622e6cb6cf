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
# # Does the best learning rate of a mixture of experts transfer, in width, experts and granularity?
#
# muP for mixtures of experts (arXiv:2508.09752) says that it does over width and over the number of experts, and not
# over granularity. The same three axes under scalelab's table, with SP in width as the control:
#
#     sweeps/replicate.sh moe_width

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import study
from scalelab.laws.columns import PARAMS
from scalelab.replications import Agreement, Finding, carried, conclude, selected, slope, tuned

here = replications.read("moe_width")
runs = here.runs()
runs["granularity"] = runs["shape.top_k"] // 2  # a token meets 2 uncut experts
runs["whole_experts"] = runs["experts"] // runs["granularity"]
runs["table_sees"] = (runs["base.top_k"] == 2) | (runs["granularity"] == 1)
runs.groupby(["parametrization", "width", "whole_experts", "granularity", "table_sees"])["lr"].agg(
    runs="count", lowest="min", highest="max"
)

# %% [markdown]
# **The axes.** Runs that two of them share are in both. Counts that follow from what varies are left out.

# %%
known = list(replications.for_laws(runs, without=PARAMS))
mup = selected(runs, {"parametrization": "mup"})
wide = selected(mup, {"whole_experts": 8, "granularity": 1})[known]
many = selected(mup, {"width": 64, "granularity": 1})[known]
fine, known_fine = selected(mup, {"width": 64, "whole_experts": 8}), [name for name in known if name != "experts"]
AXES = {
    "width, SP": (selected(runs, {"parametrization": "sp"})[known], "width"),
    "width": (wide, "width"),
    "experts": (many, "experts"),
    "granularity": (fine.loc[fine["table_sees"], known_fine], "granularity"),
    "granularity, base cut alike": (
        fine.loc[~fine["table_sees"] | (fine["granularity"] == 1), known_fine],
        "granularity",
    ),
}
laws = {name: study(part, scales=[along]) for name, (part, along) in AXES.items()}
for name, (part, along) in AXES.items():
    display(Markdown(f"**{name}**"), tuned(part, along=along))

# %%
plots.valleys(laws["width"], wide)

# %%
plots.valleys(laws["experts"], many)

# %%
plots.valleys(laws["granularity"], AXES["granularity"][0])

# %% [markdown]
# **How far does the optimum move?** In octaves a doubling, by valleys fitted at every scale; and what the smallest
# scale's best rate loses at the largest, by the runs.

# %%
slopes = {name: slope(part, along=along, name=f"{name}: best lr") for name, (part, along) in AXES.items()}
losses = {name: carried(part, along=along, name=f"{name}: carried") for name, (part, along) in AXES.items()}
# Looked at afterwards: without the narrowest, whose attention has one head of few channels.
wider = slope(wide[wide["width"] > wide["width"].min()], along="width", name="width, without the narrowest: best lr")
apart = slope(wide, along="width", name="width, each width's own valley: best lr", joint=False)
for found in (*slopes.values(), wider, apart, *losses.values()):
    display(Markdown(str(found)))

# %% [markdown]
# **The rule**, said before the runs: it stays if the interval lies within the bound on either side of zero, else it
# moves if zero lies outside.

# %%
BOUND = 0.25  # octaves a doubling


def stays(found: Finding) -> bool:
    return found.within(BOUND)


def moves(found: Finding) -> bool:
    return not stays(found) and (found.below(0.0) or found.above(0.0))


finer = [slopes["granularity"], slopes["granularity, base cut alike"]]
if not slopes["width, SP"].below(-BOUND):
    agreement = Agreement.UNDECIDED
elif moves(slopes["width"]):
    agreement = Agreement.DOES_NOT
elif not stays(slopes["width"]):
    agreement = Agreement.UNDECIDED
elif stays(slopes["experts"]) and all(map(moves, finer)):
    agreement = Agreement.HOLDS
else:
    agreement = Agreement.IN_PART


# %%
def said(name: str) -> str:
    found = slopes[name]
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]".replace("-", "−")


display(
    Markdown(
        conclude(
            here,
            agreement=agreement,
            seen=f"the best lr moves, in octaves a doubling under muP: {said('width')} of width"
            f" ({said('width, SP')} under SP), {said('experts')} of experts, {said('granularity')} of granularity"
            f" ({said('granularity, base cut alike')} where the base's experts are cut as finely); to width"
            f" {wide['width'].max():g}, {many['experts'].max():g} experts, granularity {fine['granularity'].max():g}",
            findings=[*slopes.values(), wider, apart, *losses.values()],
        )
    )
)
