"""How much one run's loss varies, and how much of that reaches the optimum.

The standard deviation comes from seed replicates pooled over the group (over the cell, where it alone has enough), else
from the residuals of the valley fits, else it is assumed; the source is always named. A seed shares its
initialisation and data order across LRs, so its errors are not independent: whole seeds are taken as the unit, as in a
cluster bootstrap. With three seeds a literal resampling has ten outcomes and two thirds of the variance it should have;
instead the seeds' joint effect on the optimum is measured in each cell and its ratio to what independent errors would
do is pooled over the group. Draws of the optimum are Gaussian with that ratio, with Student-t tails for the degrees of
freedom behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.laws.law import Array
from scalelab.laws.optima.cells import Cell
from scalelab.laws.optima.valley import Valley, bottom_of

CELL_DOF = 12  # enough replicates for a cell's own sd (known to about 20 %)
SEED_DOF = 4  # fewer whole-seed contrasts than this say nothing about their correlation
ASSUMED_NOISE_NATS = 0.005  # measured on published 5-seed groups (arXiv:2305.16264): 0.001 to 0.010


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The standard deviation of one run's loss at fixed LR, in nats; `source` is "seed replicates", "residuals" or
    "assumed", `dof` the degrees of freedom behind it (0 where assumed)."""

    sd_nats: float
    source: str
    dof: int


def pooled_noise(valleys: Sequence[Valley], cells: Sequence[Cell], skewness: Array) -> Noise:
    losses = [v.loss_SL for v in valleys] or [np.where(cell.diverged_L, np.nan, cell.loss_SL) for cell in cells]
    within = [_within_lr(loss_SL) for loss_SL in losses]
    between_seeds, seed_dof = sum(part for part, _ in within), sum(count for _, count in within)
    if seed_dof >= SEED_DOF:
        return Noise(sd_nats=float(np.sqrt(between_seeds / seed_dof)), source="seed replicates", dof=seed_dof)
    squares = 0.0
    dof = -1 if any(len(valley.u_L) >= 5 for valley in valleys) else 0  # the shared skewness
    for valley in valleys:
        bend_L = valley.u_L**2 + skewness[0] * valley.u_L**3
        basis_LK = np.stack([np.ones_like(bend_L), valley.u_L, bend_L], axis=-1)
        root_L = np.sqrt(valley.weight_L)
        solution = np.linalg.lstsq(basis_LK * root_L[:, None], valley.loss_L * root_L, rcond=None)[0]
        squares += float((valley.weight_L * (valley.loss_L - basis_LK @ solution) ** 2).sum())
        dof += len(valley.u_L) - 3
    if dof >= 1:
        return Noise(sd_nats=float(np.sqrt(squares / dof)), source="residuals", dof=dof)
    if between_seeds > 0:  # few, but seen: the Student-t tails of the draws say how few
        return Noise(sd_nats=float(np.sqrt(between_seeds / seed_dof)), source="seed replicates", dof=seed_dof)
    return Noise(sd_nats=ASSUMED_NOISE_NATS, source="assumed", dof=0)


def own_noise(valley: Valley, pooled: Noise) -> Noise:
    squares, dof = _within_lr(valley.loss_SL)
    if dof < CELL_DOF:
        return pooled
    return Noise(sd_nats=float(np.sqrt(squares / dof)), source="seed replicates", dof=dof)


def _within_lr(loss_SL: Array) -> tuple[float, int]:
    """Sum of squares between seeds at the same LR, and its degrees of freedom."""
    residual_SL = _seed_residuals(loss_SL)
    runs_L = np.isfinite(loss_SL).sum(axis=0)
    return float((residual_SL**2).sum()), int(np.maximum(runs_L - 1, 0).sum())


def _seed_residuals(loss_SL: Array) -> Array:
    finite_SL = np.isfinite(loss_SL)
    runs_L = np.maximum(finite_SL.sum(axis=0), 1)
    mean_L = np.where(finite_SL, loss_SL, 0.0).sum(axis=0) / runs_L
    return np.where(finite_SL, loss_SL - mean_L, 0.0)


def seed_ratio(valleys: Sequence[Valley], pooled: Noise, skewness: Array) -> tuple[float, int]:
    """Variance that whole seeds give the optima over what independent errors would, and the degrees of freedom.

    To first order the optimum is linear in the losses, so each seed's contribution is a dot product of its residuals
    with the optimum's gradient; their spread is the cluster-robust variance. A pure offset between seeds moves no
    optimum, which makes the ratio small; a seed-specific tilt makes it large. (1, noise dof) where seeds are too few.
    """
    if pooled.source != "seed replicates" or pooled.sd_nats == 0:
        return 1.0, pooled.dof
    ratio = 0.0
    dof = 0
    for valley in valleys:
        seeds = int(np.isfinite(valley.loss_SL).any(axis=1).sum())
        if seeds < 3:
            continue
        step = 1e-4 * float(np.ptp(valley.loss_L)) + 1e-9
        nudged = np.vstack([valley.loss_L, valley.loss_L + step * np.eye(len(valley.u_L))])
        u = bottom_of(valley, nudged, np.repeat(skewness, len(nudged)))[0]
        gradient_L = (u[1:] - u[0]) / step
        of_seed_S = (_seed_residuals(valley.loss_SL) / valley.runs_L) @ gradient_L
        independent = own_noise(valley, pooled).sd_nats ** 2 * (gradient_L**2 / valley.runs_L).sum()
        if independent > 0:
            ratio += seeds * float((of_seed_S**2).sum()) / independent  # (S-1) · S/(S-1) · Σ a²
            dof += seeds - 1
    return (ratio / dof, dof) if dof >= SEED_DOF else (1.0, pooled.dof)
