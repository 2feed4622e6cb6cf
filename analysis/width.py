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
# # In width: does the best learning rate stay, and is the wider network ahead all along training?
#
# muP promises both and SP neither (Tensor Programs V). A transformer on text and a residual network on images under
# Adam, a residual MLP on images under SGD, each tuned at every width under both tables.
#
#     sweeps/replicate.sh width    # scalelab train -m +sweep=width/proxy_transformer_sp, …_mup, proxy_mlp_sp, …

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import study
from scalelab.replications import (
    Agreement,
    at,
    carried,
    conclude,
    for_laws,
    gap,
    larger_ahead,
    larger_behind,
    slope,
    stays,
    training,
    tuned,
)

here = replications.read("width")
runs = here.runs().merge(here.frame("curves.csv"), on=["part", "run"])
PARTS = {"transformer": "transformer", "mlp": "MLP", "resnet": "ResNet"}
TABLES = {"mup": "muP", "sp": "SP"}
CASES = [(part, table) for part in PARTS for table in TABLES]
NAMES = {(part, table): f"{PARTS[part]}, {TABLES[table]}" for part, table in CASES}
of = {(part, table): at(runs, part=part, parametrization=table) for part, table in CASES}
runs.groupby(["part", "parametrization", "width"])["lr"].agg(runs="count", lowest="min", highest="max")

# %% [markdown]
# **What was measured.** A valley a width, of both tables.

# %%
known = {part: for_laws(at(runs, part=part)) for part in PARTS}
laws = {part: study(table, theory={"width": 0}) for part, table in known.items()}
for part, found in laws.items():
    display(Markdown(f"**{PARTS[part]}**"), plots.valleys(found, known[part]))

# %% [markdown]
# **Does the optimum stay?** Against width.

# %%
for part, found in laws.items():
    display(Markdown(f"**{PARTS[part]}**"), plots.optimum_against_scale(found))

# %%
moved = {case: slope(of[case], along="width", name=f"{NAMES[case]}: best lr") for case in CASES}
edges = {NAMES[case]: int(tuned(of[case], along="width")["edge"].sum()) for case in CASES}
display(Markdown(f"Widths whose best learning rate is the first or last of its grid: {edges}."))

# %% [markdown]
# **What does carrying it cost?** The narrowest network's best learning rate at the widest. And which table is better
# where it was tuned, at the widest?

# %%
lost = {case: carried(of[case], along="width", name=f"{NAMES[case]}: lost by carrying") for case in CASES}


def widest(case):
    best = tuned(of[case], along="width").iloc[-1]
    return at(of[case], width=best["width"], lr=best["lr"])


beside = [
    gap(widest((part, "mup")), widest((part, "sp")), name=f"{name}, tuned at the widest: muP − SP")
    for part, name in PARTS.items()
]

# %% [markdown]
# **Is the wider one ahead?** Training loss at the narrowest network's best learning rate, which all widths have.

# %%
for part in PARTS:
    rate = tuned(of[part, "mup"], along="width")["lr"].iloc[0]
    display(
        plots.lines(
            {
                f"{NAMES[part, table]}, lr {rate:g}": training(at(of[part, table], lr=rate), along="width")
                for table in TABLES
            },
            x="share of training",
            y="training loss (nats)",
        )
    )

# %% [markdown]
# Counted over all learning rates, pairs of neighbouring widths and points of training. *Behind* is beyond the noise of
# seeds.

# %%
ahead = {case: larger_ahead(of[case], along="width", name=f"{NAMES[case]}: wider one ahead") for case in CASES}
behind = {case: larger_behind(of[case], along="width", name=f"{NAMES[case]}: wider one behind") for case in CASES}
NEARLY_ALWAYS = 0.85

# %% [markdown]
# **The verdict**: four statements of each network, each borne out, contradicted, or not decided.

# %%
statements = []
for part in PARTS:
    mup, sp = stays(moved[part, "mup"]), stays(moved[part, "sp"])
    statements += [(mup is True, mup is False), (sp is False, sp is True)]
    statements += [
        (ahead[part, "mup"].above(NEARLY_ALWAYS), ahead[part, "mup"].below(NEARLY_ALWAYS)),
        (ahead[part, "sp"].below(NEARLY_ALWAYS), ahead[part, "sp"].above(NEARLY_ALWAYS)),
    ]
borne = sum(yes for yes, _ in statements)
against = sum(no for _, no in statements)
agreement = Agreement.of(statements)
said = "; ".join(
    f"{name} {moved[part, 'mup'].value:+.2f} under muP and {moved[part, 'sp'].value:+.2f} under SP, the wider one ahead"
    f" at {ahead[part, 'mup'].value:.0%} and {ahead[part, 'sp'].value:.0%} of all points"
    for part, name in PARTS.items()
)
sentence = (
    f"of {len(statements)} statements {borne} are borne out and {against} contradicted; the best lr moves, in octaves a"
    f" doubling of width: {said}"
)
findings = [*moved.values(), *lost.values(), *ahead.values(), *behind.values(), *beside]
display(Markdown(conclude(here, agreement=agreement, seen=sentence, findings=findings)))
