"""One law, one table: what a notebook calls."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scalelab.errors import Refused, unknown
from scalelab.laws.carried import bests
from scalelab.laws.checked import checked
from scalelab.laws.columns import COLUMNS, NAMES, OUTCOMES, SCALES
from scalelab.laws.fitted import Fit
from scalelab.laws.forms import LAWS
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.law import Law
from scalelab.laws.observations import Observations, observations
from scalelab.laws.optima.cells import grouped, swept_scales
from scalelab.laws.optima.optimum import optima
from scalelab.laws.solve.fit import fit_observations
from scalelab.laws.solve.objective import Objective


def fit(
    table: pd.DataFrame,
    law: str | Law,
    *,
    objective: Objective | None = None,
    columns: Mapping[str, str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Fit:
    """Fit one law to a table of runs.

    A law of the loss is fitted to the rows as they are; a law of a hyperparameter to the best value of each scale, from
    the joint fit of all runs.

    Args:
        table: a row a run (or a checkpoint: rows that share `run` are resampled together). Further columns are ignored.
        law: a name of `LAWS`, or a law of one's own.
        objective: what is minimised; left out, Huber's with δ at 1.345 standard deviations of the residuals, in log.
            `Objective(delta=1e-3)` is the convention of arXiv:2203.15556.
        columns: our column → the table's own name for it.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        Refused: on an unknown law, a missing column, a value out of range, inputs that do not vary or rise together,
            fewer independent runs than parameters.
    """
    form = law if isinstance(law, Law) else LAWS.get(law)
    if form is None:
        raise unknown("law", law, LAWS)
    renamed = table.rename(columns={theirs: ours for ours, theirs in (columns or {}).items()})
    kept = renamed[[name for name in renamed.columns if name in COLUMNS]]
    rng = np.random.default_rng(seed)
    if form.output in OUTCOMES:
        runs = checked(kept, output=form.output)
        refuse_several(runs)
        ok = runs[runs["outcome"] == "OK"]
        return fit_observations(
            form, observations(ok, form), objective=objective, draws=draws, rng=rng, warnings=_untuned(ok, form)
        )
    return fit_observations(form, _best(kept, form, rng), objective=objective, draws=draws, rng=rng)


def _untuned(runs: pd.DataFrame, law: Law) -> list[str]:
    """A warning where runs of one scale differ in learning rate: the law is then of tuned and untuned runs alike."""
    scales = [name for name in SCALES if name in runs]
    if "lr" in law.inputs or "log2_lr" not in runs or runs.groupby(scales)["log2_lr"].nunique().max() < 2:
        return []
    return ["scales have runs at several learning rates, all of which are fitted: `study` fits each scale's best loss"]


def refuse_several(runs: pd.DataFrame) -> None:
    """Refuse runs of several parametrizations, optimizers or data: a law is of one."""
    for name in NAMES:
        if runs[name].nunique() > 1:
            values = ", ".join(sorted(runs[name].unique())[:4])
            raise Refused(f"runs of several {name} ({values}): a law is of one; give the rows of one of them")


def _best(table: pd.DataFrame, law: Law, rng: np.random.Generator) -> Observations:
    """The best value of the law's output at each scale.

    A law of the learning rate at a given batch is fitted to the optimum of every scale and batch; any other to each
    scale's best setting of everything that was varied, from the joint fit.
    """
    runs = checked(table, needs=("batch_tokens" if law.output == "batch_tokens" else "lr",))
    refuse_several(runs)
    if (runs["outcome"] == "FAILED").all():
        raise Refused("every run FAILED, which says nothing on the loss: rerun them")
    if law.output == "lr" and "batch_tokens" in law.inputs:
        found, _, _ = optima(grouped(runs, scales=swept_scales(runs))[0].cells, draws=100, rng=rng)
        rows = pd.DataFrame([{**o.scale, "lr": o.lr} for o in found if o.lr is not None])
    else:
        joint = fit_joint(runs, draws=100, rng=rng, profiles=False)
        rows = bests(joint)
    if rows.empty:
        raise Refused(
            "no scale has an optimum between the settings tried: extend the grids; `study` says of each where"
        )
    return observations(rows, law)
