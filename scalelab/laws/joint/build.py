"""From checked runs to the joint model: which hyperparameters have a valley, and what their optima may depend on."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import PARAMS
from scalelab.laws.joint.model import Model, layout
from scalelab.laws.law import Array

CLIFF_NATS = 0.5  # as for the optima of two stages (optima/valley.py)
LEAST_SETTINGS = 3  # distinct values in one cell, for a valley
SHAPE = ("width", "depth")
EVERY = (*SHAPE, *PARAMS, "tokens", "unique_tokens", "experts", "granularity", "streams")


def scales_of(trials: pd.DataFrame, *, sized: bool | None = None) -> tuple[str, ...]:
    """The scales that tell the cells apart: shape or parameters, then tokens and the rest.

    Shape is what a parametrization speaks of, and is taken where one is stated and width or depth varied; parameters
    are what published laws speak of. `sized` True asks for parameters, False for shape, where there are both.
    """
    varied = [name for name in EVERY if name in trials and trials[name].nunique() > 1]
    shape, size = ([name for name in varied if name in names] for names in (SHAPE, PARAMS))
    if sized is None:
        sized = not shape or (bool(size) and bool((trials["parametrization"] == "unstated").all()))
    chosen = (size[:1] or shape) if sized else (shape or size[:1])
    return (*chosen, *(name for name in varied if name not in (*SHAPE, *PARAMS)))


def build(trials: pd.DataFrame, *, sized: bool | None = None) -> tuple[Model, list[dict[str, float]], dict[str, float]]:
    """The model of one group of checked runs, the cells' scales, and x0 of every scale and covariate.

    `sized` as for `scales_of`.

    Raises:
        Refused: where there is one scale only, or no hyperparameter was varied within a cell.
    """
    scales = scales_of(trials, sized=sized)
    if not scales:
        raise Refused("one scale only: a law needs two scales or more with equal settings; train another")
    every = [name for name in EVERY if name in trials]
    cells = trials[every].drop_duplicates().sort_values(every, kind="stable").reset_index(drop=True)
    cell_N = trials[every].merge(cells.reset_index(), on=every, how="left")["index"].to_numpy()
    trials, ok_N = _kept(trials, cell_N)
    varied, notes = _bracketed(trials, cell_N, ok_N, _varied(trials[ok_N], cell_N[ok_N]))
    log_CS = np.log(cells[list(scales)].to_numpy(float))
    log_x0 = dict(zip(scales, log_CS.mean(axis=0), strict=True))
    across = ["batch_tokens"] if "batch_tokens" in trials and trials["batch_tokens"].nunique() > 1 else []
    if across:
        log_x0["batch_tokens"] = float(np.log(trials["batch_tokens"]).mean())
    order = np.argsort(cell_N[ok_N], kind="stable")
    runs = trials[ok_N].iloc[order]
    run_cell_N = cell_N[ok_N][order]
    lowest = _lowest_diverged(trials, cell_N, across, varied)
    coordinates = []
    for name in varied:
        covariates = (*scales, *across) if name == "lr" else scales
        coordinates.append((name, _log_setting(runs, name), covariates, _covariates(runs, covariates, log_x0)))
    return (
        Model(
            cell_N=run_cell_N,
            log_loss_N=np.log(runs["loss_nats"].to_numpy(float)),
            cells=len(cells),
            coordinates=layout(coordinates),
            notes=notes,
            bound_cell_M=lowest["cell"].to_numpy(np.intp),
            bound_lr_M=_log_setting(lowest, "lr") if len(lowest) else np.zeros(0),
            bound_covariate_MK=_covariates(lowest, (*scales, *across), log_x0),
        ),
        [{str(name): float(value) for name, value in row.items()} for row in cells.to_dict("records")],
        {name: float(np.exp(value)) for name, value in log_x0.items()},
    )


def _kept(trials: pd.DataFrame, cell_N: Array) -> tuple[pd.DataFrame, Array]:
    """Runs that ended and did not blow up, and the trials with those that did counted as diverged.

    A run far above its scale's best tells where the cliff is and not where the valley has its bottom. At a learning
    rate above the best one it bounds the optimum as a divergence does; below it has merely trained too little.
    """
    ok_N = (trials["outcome"] == "OK").to_numpy()
    loss_N = trials["loss_nats"].where(ok_N, np.inf).to_numpy(float)
    order = np.lexsort((loss_N, cell_N))
    first = order[np.searchsorted(cell_N[order], np.arange(cell_N.max() + 1))]
    far_N = ok_N & (loss_N > loss_N[first][cell_N] + CLIFF_NATS)
    if "lr" in trials:
        above_N = (trials["lr"].to_numpy(float) > trials["lr"].to_numpy(float)[first][cell_N]) & far_N
        trials = trials.assign(outcome=trials["outcome"].where(~above_N, "DIVERGED"))
    return trials, ok_N & ~far_N


def _varied(runs: pd.DataFrame, cell_N: Array) -> list[str]:
    found = [
        name
        for name, column in (("lr", "log2_lr"), ("batch_tokens", "batch_tokens"))
        if column in runs and runs.groupby(cell_N)[column].nunique().max() >= LEAST_SETTINGS
    ]
    decays = "weight_decay" in runs and (runs["weight_decay"] > 0).all()
    told = decays and {"lr", "batch_tokens", "tokens"} <= set(runs.columns)
    if told and runs.groupby([cell_N, "lr", "batch_tokens"])["weight_decay"].nunique().max() >= LEAST_SETTINGS:
        found.append("tau")
    return found


def _bracketed(
    trials: pd.DataFrame, cell_N: Array, ok_N: Array, varied: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """What was varied and has its best value between others somewhere, and a note on each that has not.

    Where every scale's best is the first or last value tried there is no valley to see, only one of its sides.
    """
    found, notes = [], []
    best = trials[ok_N].loc[lambda t: t.groupby(cell_N[ok_N])["loss_nats"].idxmin()]
    for name in varied:
        setting_N = pd.Series(_log_setting(trials, name))
        ends = setting_N.groupby(cell_N)
        at_N = pd.Series(_log_setting(best, name), index=cell_N[trials.index.get_indexer(best.index)])
        low, high = ends.min().reindex(at_N.index), ends.max().reindex(at_N.index)
        if ((at_N > low + 1e-9) & (at_N < high - 1e-9)).any():
            found.append(name)
            continue
        side, where = ("lowest", "down") if (at_N <= low + 1e-9).mean() > 0.5 else ("highest", "up")
        notes.append(
            f"every scale's best {name} is the {side} tried, so its optimum cannot be seen: extend the grid {where}"
        )
    if not varied:
        raise Refused("no learning rate, batch or weight decay was varied within a scale: there is no optimum to find")
    if not found:
        raise Refused("; ".join(notes))
    return found, tuple(notes)


def _log_setting(runs: pd.DataFrame, name: str) -> Array:
    if name == "lr":  # as `checked` made equal what rounding made different
        return np.asarray(np.log(2) * runs["log2_lr"].to_numpy(float))
    if name == "tau":
        decayed = runs["lr"] * runs["weight_decay"] * runs["tokens"]
        return np.asarray(np.log((runs["batch_tokens"] / decayed).to_numpy(float)))
    return np.asarray(np.log(runs[name].to_numpy(float)))


def _covariates(runs: pd.DataFrame, names: Sequence[str], log_x0: dict[str, float]) -> Array:
    columns = [np.log(runs[name].to_numpy(float)) - log_x0[name] for name in names]
    return np.stack(columns, axis=-1) if columns else np.zeros((len(runs), 0))


def _lowest_diverged(trials: pd.DataFrame, cell_N: Array, across: Sequence[str], varied: Sequence[str]) -> pd.DataFrame:
    """The runs with the lowest lr that diverged, of every cell and batch; none where rates were not swept."""
    diverged_N = (trials["outcome"] == "DIVERGED").to_numpy()
    diverged = trials[diverged_N].assign(cell=cell_N[diverged_N])
    if varied[0] != "lr":
        return diverged.iloc[:0]
    return diverged.sort_values("log2_lr", kind="stable").drop_duplicates(["cell", *across])
