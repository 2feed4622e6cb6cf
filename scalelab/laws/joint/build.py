"""From checked runs to the joint model: which hyperparameters have a valley, and what their optima may depend on."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import PARAMS
from scalelab.laws.joint.model import Model, layout
from scalelab.laws.law import Array

LEAST_SETTINGS = 3  # distinct values in one cell, for a valley
SHAPE = ("width", "depth")


def scales_of(trials: pd.DataFrame) -> tuple[str, ...]:
    """The scales that tell the cells apart: shape where it varied, else parameters; then tokens and the rest."""
    varied = [name for name in (*SHAPE, *PARAMS, "tokens", "unique_tokens", "experts", "streams")
              if name in trials and trials[name].nunique() > 1]  # fmt: skip
    shaped = any(name in varied for name in SHAPE)
    size = [name for name in varied if name in SHAPE] if shaped else [name for name in varied if name in PARAMS][:1]
    return (*size, *(name for name in varied if name not in (*SHAPE, *PARAMS)))


def build(trials: pd.DataFrame) -> tuple[Model, list[dict[str, float]], dict[str, float]]:
    """The model of one group of checked runs, the cells' scales, and x0 of every scale and covariate.

    Raises:
        Refused: where there is one scale only, or no hyperparameter was varied within a cell.
    """
    scales = scales_of(trials)
    if not scales:
        raise Refused("one scale only: a law needs two scales or more with equal settings; train another")
    every = [name for name in (*SHAPE, *PARAMS, "tokens", "unique_tokens", "experts", "streams") if name in trials]
    cells = trials[every].drop_duplicates().sort_values(every, kind="stable").reset_index(drop=True)
    cell_N = trials[every].merge(cells.reset_index(), on=every, how="left")["index"].to_numpy()
    ok_N = (trials["outcome"] == "OK").to_numpy()
    varied = _varied(trials[ok_N], cell_N[ok_N])
    if not varied:
        raise Refused("no learning rate, batch or weight decay was varied within a scale: there is no optimum to find")
    log_CS = np.log(cells[list(scales)].to_numpy(float))
    log_x0 = dict(zip(scales, log_CS.mean(axis=0), strict=True))
    across = ["batch_tokens"] if "batch_tokens" in trials and trials["batch_tokens"].nunique() > 1 else []
    if across:
        log_x0["batch_tokens"] = float(np.log(trials["batch_tokens"]).mean())
    order = np.argsort(cell_N[ok_N], kind="stable")
    runs = trials[ok_N].iloc[order]
    run_cell_N = cell_N[ok_N][order]
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
            **_bounds(trials, cell_N, (*scales, *across), log_x0, varied),
        ),
        [{name: float(value) for name, value in row.items()} for row in cells.to_dict("records")],
        {name: float(np.exp(value)) for name, value in log_x0.items()},
    )


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


def _log_setting(runs: pd.DataFrame, name: str) -> Array:
    if name == "lr":  # as `checked` made equal what rounding made different
        return np.log(2) * runs["log2_lr"].to_numpy(float)
    if name == "tau":
        decayed = runs["lr"] * runs["weight_decay"] * runs["tokens"]
        return np.log((runs["batch_tokens"] / decayed).to_numpy(float))
    return np.log(runs[name].to_numpy(float))


def _covariates(runs: pd.DataFrame, names: Sequence[str], log_x0: dict[str, float]) -> Array:
    columns = [np.log(runs[name].to_numpy(float)) - log_x0[name] for name in names]
    return np.stack(columns, axis=-1) if columns else np.zeros((len(runs), 0))


def _bounds(
    trials: pd.DataFrame, cell_N: Array, covariates: Sequence[str], log_x0: dict[str, float], varied: Sequence[str]
) -> dict[str, Array]:
    """The lowest learning rate that diverged, of every cell and batch."""
    diverged = trials[trials["outcome"] == "DIVERGED"].assign(cell=cell_N[trials["outcome"] == "DIVERGED"])
    if varied[0] != "lr":
        diverged = diverged.iloc[:0]
    by = ["cell", *(["batch_tokens"] if "batch_tokens" in covariates else [])]
    lowest = diverged.sort_values("log2_lr", kind="stable").drop_duplicates(by)
    return {
        "bound_cell_M": lowest["cell"].to_numpy(np.intp),
        "bound_lr_M": _log_setting(lowest, "lr"),
        "bound_covariate_MK": _covariates(lowest, covariates, log_x0),
    }
