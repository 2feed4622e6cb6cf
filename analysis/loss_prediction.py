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
# # Is the loss of a wide model known from narrow ones?
#
# Under muP, at the learning rate that is best at the narrowest width, losses are said to lie on a power law in size
# with a constant. It is fitted to the narrow widths here and held against wider ones that it has not seen; SP, at the
# same learning rate, is the contrast. At the narrowest width the two are the same network.
#
#     sweeps/replicate.sh loss_prediction    # scalelab train -m +sweep=loss_prediction/proxy_tune, …_narrow, …_wide

# %%
# %matplotlib inline
from IPython.display import Markdown, display

from scalelab import plots, replications
from scalelab.laws import fit
from scalelab.replications import Agreement, Finding, at, conclude, gap, tuned

here = replications.read("loss_prediction")
runs = here.runs()
tune, narrow, wide = (at(runs, part=part) for part in ("tune", "narrow", "wide"))
TABLES = {"mup": "muP", "sp": "SP"}
WIDE = sorted(wide["width"].unique())
runs.groupby(["part", "parametrization", "width"])["lr"].agg(runs="count", lowest="min", highest="max")

# %% [markdown]
# **The learning rate**, the best of the narrowest width by the mean of its seeds.

# %%
(best,) = tuned(tune, along="width").itertuples()
(used,) = {*narrow["lr"], *wide["lr"]}
display(
    Markdown(
        f"Best at width {best.width:g}: {best.lr:g}{' (at the edge of its grid)' if best.edge else ''}; all others ran"
        f" at {used:g}."
    )
)

# %% [markdown]
# **What was measured**, means over seeds: the narrow widths, which the laws see, and the wide ones, which they do not.

# %%
means = {
    name: table.pivot_table(values="loss_nats", index="width", columns="parametrization").rename(columns=TABLES)
    for name, table in (("narrow: fitted", narrow), ("wide: predicted", wide))
}
plots.lines(means, x="width", y="loss (nats)")

# %%
laws = {table: fit(at(narrow, parametrization=table), "mu_scaling") for table in TABLES}
for table, law in laws.items():
    display(Markdown(f"**{TABLES[table]}**"), law.plot_curve(), Markdown(f"```\n{law.summary()}\n```"))

# %% [markdown]
# **What was predicted, and what came.** An error is the prediction minus the mean of the seeds there, in per cent of
# the loss; its interval is the law's for a run of a new width. Beside it the error of copying the loss of the widest
# of the narrow ones.

# %%
errors, copied = {}, {}
for table, name in TABLES.items():
    (last,) = {narrow["width"].max()}
    for width in WIDE:
        own = at(wide, parametrization=table, width=width)
        there = own["loss_nats"].mean()
        said = laws[table].predict(params=float(own["params_non_embedding"].iloc[0]))
        errors[table, width] = Finding(
            name=f"{name}, width {width:g}: predicted − measured", value=100 * (said.value / there - 1),
            low=100 * (said.low / there - 1), high=100 * (said.high / there - 1), unit="% of the loss",
            n=laws[table].n + len(own),
        )  # fmt: skip
        percent = {
            side: each.assign(percent=100 * each["loss_nats"] / there)
            for side, each in (("last", at(narrow, parametrization=table, width=last)), ("own", own))
        }
        copied[table, width] = gap(
            percent["last"], percent["own"], name=f"{name}, width {width:g}: copied from width {last:g} − measured",
            column="percent", unit="% of the loss",
        )  # fmt: skip

# %% [markdown]
# **The verdict**, under muP: of each wide width, the measured loss is inside the law's interval, and the prediction is
# within a hundredth of it; and the law's errors are smaller than those of copying.

# %%
CLOSE = 1.0


def size(found, table):
    return sum(abs(found[table, width].value) for width in WIDE) / len(WIDE)


inside = {(table, width): found.low <= 0 <= found.high for (table, width), found in errors.items()}
statements = [inside["mup", width] for width in WIDE] + [abs(errors["mup", width].value) <= CLOSE for width in WIDE]
informed = size(errors, "mup") < size(copied, "mup")
if all(statements) and informed:
    agreement = Agreement.HOLDS
else:
    agreement = Agreement.IN_PART if any(statements) else Agreement.DOES_NOT
widest = WIDE[-1]
last = {table: errors[table, widest] for table in TABLES}
sentence = (
    f"the law of widths {narrow['width'].min():g} to {narrow['width'].max():g} is off by {last['mup'].value:+.2f} %"
    f" [{last['mup'].low:+.2f}, {last['mup'].high:+.2f}] at width {widest:g} under muP, where copying is by"
    f" {copied['mup', widest].value:+.2f} %, and by {last['sp'].value:+.2f} % [{last['sp'].low:+.2f},"
    f" {last['sp'].high:+.2f}] under SP; of {len(WIDE)} measured losses {sum(inside['mup', width] for width in WIDE)}"
    f" are inside its interval under muP, {sum(inside['sp', width] for width in WIDE)} under SP"
)
display(Markdown(conclude(here, agreement=agreement, seen=sentence, findings=[*errors.values(), *copied.values()])))
