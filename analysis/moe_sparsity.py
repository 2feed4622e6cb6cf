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
# # What do more experts buy at equal compute?
#
# Clark et al. (arXiv:2202.01169): at the same active parameters and tokens log loss is bilinear in log parameters and
# log experts, so that every doubling of the experts helps, the less the larger the network. Abnar et al.
# (arXiv:2501.12370): at the same training compute the best network is sparser, has fewer active parameters, and is
# better. E is the number of experts of which a token meets one; here each is cut in two halves, and a token meets two.
#
#     sweeps/replicate.sh moe_sparsity

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import draw, fit, published, study, tables
from scalelab.replications import Agreement, Finding, conclude, gap, over_seeds, powers, selected, slope, tuned

here = replications.read("moe_sparsity")
runs = here.runs().assign(E=lambda table: table["experts"] // 2)
longest = runs["tokens"] == 262144
grid, iso = selected(runs[longest], {"lr": 0.02}), runs[~longest]
grid.pivot_table(index="width", columns="E", values="loss_nats", aggfunc=["mean", "std", "count"])

# %% [markdown]
# **At equal active parameters and tokens.** The loss against experts, a line a width, by Clark's law without its
# saturation, which these few numbers of experts do not determine. N is the dense network's, without embeddings.

# %%
dense = selected(grid, {"E": 1}).groupby("width")["params_non_embedding"].first()
law = ["run", "parametrization", "optimizer", "data", "tokens", "batch_tokens", "seed", "outcome", "loss_nats"]
table = grid[law].assign(params=grid["width"].map(dense), experts=grid["E"])
bilinear = fit(table, "clark_bilinear")
draw.curve(bilinear, rows=table, over="experts")

# %%
others = {router: published(f"clark/{router}").parameters for router in ("s_base", "rl_r", "hash")}
display(
    Markdown(
        "  \n".join(
            f"**{name}**: {bilinear.estimates[name].value:+.4f} [{bilinear.estimates[name].low:+.4f},"
            f" {bilinear.estimates[name].high:+.4f}]; the paper's "
            + ", ".join(f"{value[name]:+.3f} ({router})" for router, value in others.items())
            for name in "abc"
        )
    )
)

# %%
# What the paper's law, with its saturation, would say of these sizes, far below those it was fitted to.
middle = float(table["params"].median())
foreseen = {
    name: [published(f"clark/{name}").predict(params=middle, experts=float(E)) for E in sorted(grid["E"].unique())]
    for name in others
}
display(
    Markdown(
        f"At {middle:,.0f} parameters, from {grid['E'].min()} to {grid['E'].max()} experts, by the paper's law: "
        + ", ".join(f"{losses[-1] / losses[0] - 1:+.1%} of the loss ({name})" for name, losses in foreseen.items())
    )
)

# %% [markdown]
# **What a doubling of the experts buys**: the exponent of the loss in E of every width and seed, and the gain of the
# first two doublings less that of the last two.

# %%
each = powers(grid, of="loss_nats", along="E", by=["width", "seed"])
falls = {
    "all widths": over_seeds(each, name="loss ∝ E^p, all widths", unit="exponent", n=len(grid)),
    **{
        width: over_seeds(
            each[width], name=f"loss ∝ E^p, width {width}", unit="exponent", n=int((grid["width"] == width).sum())
        )
        for width in dense.index
    },
}


def blocks(part):
    """The widths' seeds as seeds of one table, which pairs them."""
    return part.assign(seed=part["width"].astype(str) + "-" + part["seed"].astype(str))


def gained(less, more):
    """The loss of `less` experts over that of `more`, for every width and seed."""
    a, b = (blocks(selected(grid, {"E": E})).set_index("seed")["loss_nats"] for E in (less, more))
    return (a - b).rename("loss_nats").reset_index()


first, last = gained(1, 4), gained(4, 16)
diminishing = gap(first, last, name="gain from 1 to 4 experts less that from 4 to 16")
total = gap(blocks(selected(grid, {"E": 1})), blocks(selected(grid, {"E": 16})), name="loss of 1 expert over 16")
shrinks = bilinear.estimates["c"]
size = Finding(
    name="Clark's c", value=shrinks.value, low=shrinks.low, high=shrinks.high, unit="a decade of N", n=len(grid)
)
for found in (*falls.values(), total, diminishing, size):
    display(Markdown(str(found)))

# %% [markdown]
# **Does one learning rate favour some?** Half and double of it, at both ends.

# %%
swept = selected(runs[longest], {"width": 32})
ends = swept[swept["E"].isin([1, 16])]
best = tuned(ends, along="E")
display(ends.pivot_table(index="lr", columns="E", values="loss_nats"), best)

# %%
valleys = study(ends[[*law, "lr", "experts"]], scales=["experts"])
display(plots.valleys(valleys, ends[[*law, "lr", "experts"]]))
bottoms = tables(valleys)["optima"].sort_values("experts")
moved = slope(ends[[*law, "lr", "experts"]], along="experts", name="width 32, from 1 to 16 experts: best lr")
deeper = Finding(
    name="width 32, bottoms of the valleys: 16 experts over 1",
    value=float(bottoms["loss_nats"].iloc[-1] - bottoms["loss_nats"].iloc[0]), unit="nats", n=len(ends),
)  # fmt: skip
display(bottoms[["experts", "lr", "loss_nats", "status"]], Markdown(str(moved)), Markdown(str(deeper)))

# %% [markdown]
# **At equal training compute.** The loss of every width and number of experts, and the best width of each.

# %%
display(iso.pivot_table(index="width", columns="E", values="loss_nats", aggfunc=["mean", "std"]))
sparse = tuned(iso, along="E", over="width")
display(sparse)

# %%
few, many = (selected(iso, {"E": row.E, "width": row.width}) for row in (sparse.iloc[0], sparse.iloc[-1]))
better = gap(many, few, name=f"equal compute: best width of {iso['E'].max()} experts over that of 1")
at_edge = bool(sparse["edge"].any())
# Looked at afterwards: every width, not the best alone.
everywhere = gap(
    *(blocks(selected(iso, {"E": E})) for E in (iso["E"].max(), iso["E"].min())),
    name=f"equal compute, all widths: {iso['E'].max()} experts over 1",
)

# %% [markdown]
# **The rule**, said before the runs.

# %%
ratio = best["lr"].iloc[0] / best["lr"].iloc[-1]
octave = not 0.6 < ratio < 1.7  # of a grid in octaves: another point of it
tuned_gap = gap(
    *(selected(ends, {"E": row.E, "lr": row.lr}) for row in (best.iloc[-1], best.iloc[0])),
    name="width 32, each at its best lr: 16 experts over 1",
)
helps = tuned_gap if octave else falls["all widths"]
less_each_time = diminishing.above(0.0) or size.above(0.0)
if helps.below(0.0) and less_each_time and better.below(0.0):
    agreement = Agreement.HOLDS
elif helps.below(0.0) or better.below(0.0):
    agreement = Agreement.IN_PART
elif helps.above(0.0) or better.above(0.0):
    agreement = Agreement.DOES_NOT
else:
    agreement = Agreement.UNDECIDED


def said(found, digits=3):
    return f"{found.value:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]".replace("-", "−")


display(
    Markdown(
        conclude(
            here,
            agreement=agreement,
            seen=f"at equal active parameters loss ∝ E^p with p = {said(falls['all widths'], 4)} over E = 1 to"
            f" {grid['E'].max()}, {total.value:.3f} nats in all; the gain of the first two doublings minus that of the"
            f" last two is {said(diminishing)} nats, c = {said(size, 4)}; at equal compute the best of"
            f" {iso['E'].max()} experts minus that of 1 is {said(better)} nats; best widths "
            + ", ".join(f"{row.width:g} (E = {row.E:g})" for row in sparse.itertuples())
            + f", of which {iso['width'].min():g} is the smallest tried" * at_edge,
            findings=[*falls.values(), total, diminishing, size, moved, tuned_gap, deeper, better, everywhere],
        )
    )
)
