"""Chinchilla's Approach 1: at each cost the run whose training curve is lowest, and its size (arXiv:2203.15556).

Curves are joined by lines in log loss, log cost. A cost counts where the best size lies between the smallest and the
largest of the curves that reach there; elsewhere the best was not tried. Smooth noisy training losses first: a lower
envelope picks what noise has lowered.
"""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.compute_optimal import Budget, IsoFlop, line, power_of_cost, with_cost
from scalelab.laws.fitted import estimate
from scalelab.laws.law import Array

COSTS = 1500  # as in arXiv:2203.15556
LEAST_SWITCHES = 2  # sizes that are best somewhere inside, for an exponent


def envelope(table: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> IsoFlop:
    """The compute-optimal size and tokens along the lower envelope of the training curves.

    Args:
        table: a row a checkpoint, with run, loss_nats, one count of parameters, and cost_flops or tokens so far. A
            curve that ends with its learning rate still high is above what a run of that length could reach.
        draws: of whole runs, with replacement, for the intervals.
        seed: of the draws.

    Raises:
        Refused: on a missing column, runs of one row each, or fewer than two sizes that are best somewhere inside.
    """
    if "run" not in table:
        raise Refused("the table has no column 'run': an envelope needs rows that name the run they are checkpoints of")
    runs, size = with_cost(table)
    curves = [rows.sort_values("cost_flops") for _, rows in runs.groupby("run", sort=True) if len(rows) > 1]
    if len(curves) < 2:
        raise Refused(f"{len(curves)} runs have more than one row: an envelope needs curves, a row a checkpoint")
    log_C = np.log(np.geomspace(runs["cost_flops"].min(), runs["cost_flops"].max(), COSTS))
    log_L_RC = np.stack([_joined(rows, "loss_nats", log_C) for rows in curves])
    log_D_RC = np.stack([_joined(rows, "tokens", log_C) for rows in curves])
    log_N_R = np.log(np.array([float(rows[size].iloc[0]) for rows in curves]))
    best_C, inside_C = _lowest(log_L_RC, log_N_R)
    if (sizes := len(np.unique(log_N_R[best_C[inside_C]]))) < LEAST_SWITCHES:
        raise Refused(
            f"{sizes} sizes are best at some cost with smaller and larger ones to compare: an exponent needs"
            f" {LEAST_SWITCHES}; train more sizes for longer"
        )
    rng = np.random.default_rng(seed)
    x, at = log_C[inside_C], np.flatnonzero(inside_C)
    log_N_C, log_D_C = log_N_R[best_C[at]], log_D_RC[best_C[at], at]
    drawn_N, drawn_D, sizes_DC = _resampled(log_L_RC, log_D_RC, log_N_R, log_C, float(x.mean()), draws, rng)
    status = f"{sizes} of {len(np.unique(log_N_R))} sizes are best somewhere; {len(curves)} curves, resampled by run"
    few = len(drawn_N) < draws / 2
    weight = np.ones(len(x))
    return IsoFlop(
        method="envelope",
        size=size,
        budgets=_segments(best_C, inside_C, log_C, log_N_R, log_L_RC, log_D_RC, sizes_DC),
        params=power_of_cost(size, x, log_N_C, weight, drawn_N, scatter=0.0, source=status),
        tokens=power_of_cost("tokens", x, log_D_C, weight, drawn_D, scatter=0.0, source=status),
        status=status,
        warnings=(f"only {len(drawn_N)} of {draws} resamples of the runs have an exponent",) if few else (),
    )


def _joined(rows: pd.DataFrame, column: str, log_C: Array) -> Array:
    """A curve at every cost, in logarithms; NaN before its first row and after its last."""
    values = np.log(rows[column].to_numpy(float))
    return np.asarray(np.interp(log_C, np.log(rows["cost_flops"].to_numpy(float)), values, left=np.nan, right=np.nan))


def _lowest(log_L_RC: Array, log_N_R: Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The lowest run at every cost, and whether smaller and larger ones reach there too."""
    there_RC = np.isfinite(log_L_RC)
    best_C = np.where(there_RC, log_L_RC, np.inf).argmin(axis=0)
    smallest_C = np.where(there_RC, log_N_R[:, None], np.inf).min(axis=0)
    largest_C = np.where(there_RC, log_N_R[:, None], -np.inf).max(axis=0)
    return best_C, (log_N_R[best_C] > smallest_C) & (log_N_R[best_C] < largest_C)


def _resampled(
    log_L_RC: Array, log_D_RC: Array, log_N_R: Array, log_C: Array, centre: float, draws: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Draws of (ln c, p) for size and tokens, and of the best ln size at every cost, NaN where it is not inside."""
    lines_N, lines_D, sizes_DC = [], [], np.full((draws, len(log_C)), np.nan)
    for draw in range(draws):
        runs = np.unique(rng.integers(len(log_N_R), size=len(log_N_R)))
        best_C, inside_C = _lowest(log_L_RC[runs], log_N_R[runs])
        at = np.flatnonzero(inside_C)
        chosen = runs[best_C[at]]
        sizes_DC[draw, at] = log_N_R[chosen]
        if len(np.unique(log_N_R[chosen])) < LEAST_SWITCHES:
            continue
        x, one = log_C[at] - centre, np.ones(len(at))
        lines_N.append(line(x, log_N_R[chosen][None], one)[0])
        lines_D.append(line(x, log_D_RC[chosen, at][None], one)[0])
    if not lines_N:
        raise Refused("no resample of the runs has an exponent: train more sizes, each well past its best tokens")
    return np.stack(lines_N), np.stack(lines_D), sizes_DC


def _segments(
    best_C: npt.NDArray[np.intp], inside_C: npt.NDArray[np.bool_], log_C: Array, log_N_R: Array, log_L_RC: Array,
    log_D_RC: Array, sizes_DC: Array,
) -> tuple[Budget, ...]:  # fmt: skip
    """A budget for every run on the envelope, at the middle of the costs where it is best."""
    found = []
    for run in dict.fromkeys(best_C[inside_C].tolist()):
        stretch = np.flatnonzero(inside_C & (best_C == run))
        middle = int(stretch[len(stretch) // 2])
        there_R = np.isfinite(log_L_RC[:, middle])
        drawn = sizes_DC[np.isfinite(sizes_DC[:, middle]), middle]
        found.append(
            Budget(
                cost_flops=math.exp(log_C[middle]),
                status="INTERIOR",
                sizes=(math.exp(log_N_R[there_R].min()), math.exp(log_N_R[there_R].max())),
                params=estimate(math.exp(log_N_R[run]), np.exp(drawn)) if len(drawn) else None,
                tokens=math.exp(log_D_RC[run, middle]),
                loss_nats=math.exp(log_L_RC[run, middle]),
            )
        )
    return tuple(found)
