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
# # In depth: does the best learning rate transfer, and do blocks stay more than linear?
#
# muP has no rule for depth. Depth-muP and CompleteP divide every residual branch by a power α of the depth, ½ and one.
# Their papers say that the best learning rate then stays, in transformers, vision transformers and residual networks;
# CompleteP's adds that with α = ½ blocks become lazy: their change is more and more that of their linearisation.
#
#     sweeps/replicate.sh depth    # scalelab train -m +sweep=depth/proxy_transformer, …; scalelab check --lazy …

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import study
from scalelab.replications import Agreement, at, carried, conclude, for_laws, gap, over_seeds, powers, slope, tuned

here = replications.read("depth")
runs, lazy = here.runs(), here.frame("lazy.csv")
PARTS = {"transformer": "transformer", "vit": "ViT", "resnet": "ResNet"}
TABLES = {"mup": "muP", "depth_mup": "depth-muP", "completep": "CompleteP"}
runs.groupby(["part", "parametrization", "depth"])["lr"].agg(runs="count", lowest="min", highest="max")

# %% [markdown]
# **What was measured.** A valley a depth, for each model and table.

# %%
known = {part: for_laws(at(runs, part=part)) for part in PARTS}
laws = {part: study(table, theory={"depth": 0}) for part, table in known.items()}
for part, found in laws.items():
    display(Markdown(f"**{PARTS[part]}**"), plots.valleys(found, known[part]))

# %% [markdown]
# **Does the optimum stay?** Against depth. A table *transfers* if the whole interval of the slope is within a fifth of
# an octave a doubling; it *drifts* if the interval leaves out zero and reaches beyond that.

# %%
for part, found in laws.items():
    display(Markdown(f"**{PARTS[part]}**"), plots.optimum_against_scale(found))

# %%
STAYS = 0.2
moved = {
    (part, table): slope(
        at(runs, part=part, parametrization=table), along="depth", name=f"{PARTS[part]}, {TABLES[table]}: best lr"
    )
    for part in PARTS
    for table in TABLES
}


def transfers(finding):
    return finding.within(STAYS)


def drifts(finding):
    return (finding.above(0) or finding.below(0)) and not finding.within(STAYS)


# %% [markdown]
# **What does carrying it cost?** The shallowest network's best learning rate at the deepest. And is the loss lower
# where each table is tuned at the deepest?

# %%
lost = [
    carried(
        at(runs, part=part, parametrization=table),
        along="depth",
        name=f"{PARTS[part]}, {TABLES[table]}: lost by carrying",
    )
    for part in PARTS
    for table in TABLES
]


def deepest(part, table):
    own = at(runs, part=part, parametrization=table)
    best = tuned(own, along="depth").iloc[-1]
    return at(own, depth=best["depth"], lr=best["lr"])


ahead = [
    gap(
        deepest(part, "completep"),
        deepest(part, other),
        name=f"{PARTS[part]}, tuned at the deepest: CompleteP − {TABLES[other]}",
    )
    for part in PARTS
    for other in ("mup", "depth_mup")
]

# %% [markdown]
# **Do blocks become lazy?** The departure of a branch's change from that of its linearisation, relative to the latter,
# after ten steps. It is *lazy* if it falls by more than a quarter of an octave a doubling of depth, with its whole
# interval.

# %%
LAZY = -0.25
means = lazy.groupby(["check", "parametrization", "depth"])["departure"].mean().unstack("parametrization")
panels = {name: means.loc[part].rename(columns=TABLES) for part, name in PARTS.items()}
plots.lines(panels, x="depth", y="|Δh − Δh_lin| / |Δh_lin|")

# %%
falls = {}
for part in PARTS:
    for table in TABLES:
        own = lazy[(lazy["check"] == part) & (lazy["parametrization"] == table)]
        falls[part, table] = over_seeds(
            powers(own, of="departure", along="depth", by=["seed"]), n=own.groupby(["depth", "seed"]).ngroups,
            name=f"{PARTS[part]}, {TABLES[table]}: departure from linear", unit="octaves a doubling of depth",
        )  # fmt: skip

# %% [markdown]
# **The verdict**: fifteen statements, each borne out, contradicted, or not decided.

# %%
statements = []
for part in PARTS:
    statements.append((drifts(moved[part, "mup"]), transfers(moved[part, "mup"])))
    statements += [(transfers(moved[part, table]), drifts(moved[part, table])) for table in ("depth_mup", "completep")]
    statements.append((falls[part, "depth_mup"].below(LAZY), falls[part, "depth_mup"].above(LAZY)))
    statements.append((falls[part, "completep"].above(LAZY), falls[part, "completep"].below(LAZY)))
borne = sum(yes for yes, _ in statements)
against = sum(no for _, no in statements)
agreement = Agreement.of(statements)
said = {key: f"{moved[key].value:+.2f}" for key in moved}
rates = ", ".join(f"{TABLES[table]} {said['transformer', table]} ({said['vit', table]} in the ViT)" for table in TABLES)
sentence = (
    f"of {len(statements)} statements {borne} are borne out, {against} contradicted, the others not decided; the"
    f" transformer's best lr moves, in octaves a doubling of depth: {rates}; its blocks' departure from linear by"
    f" {falls['transformer', 'depth_mup'].value:+.2f} under depth-muP, {falls['transformer', 'completep'].value:+.2f}"
    " under CompleteP"
)
display(
    Markdown(
        conclude(here, agreement=agreement, seen=sentence, findings=[*moved.values(), *falls.values(), *lost, *ahead])
    )
)
