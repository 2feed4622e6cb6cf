"""Levenberg-Marquardt on many problems at once: starts, bootstrap resamples, profile points.

All problems share a law and observations and differ in weights, starting point and which coordinates are free. Steps
are Gauss-Newton steps with Marquardt's damping (1963, doi:10.1137/0111030), each problem with its own. For a robust
objective the curvature of a residual beyond the threshold is 0, which alone would make steps wild, while the weights of
reweighted least squares make them crawl; a tenth of the latter beside the former converges in some twenty steps.
Problems that have converged are dropped from the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scalelab.laws.law import Array
from scalelab.laws.solve.objective import Objective
from scalelab.laws.solve.problem import FARTHEST

CRAWL = 0.1  # share of reweighted least squares in the curvature
FIRST = 2  # steps of pure reweighted least squares, which are safe far from the optimum
MOST = 1e8  # damping at which a problem cannot be improved any more
EXACT = 1e-24  # mean square of residuals that are rounding errors
CHUNK = 65_536  # residuals at a time, a few hundred problems of a few hundred: their derivatives stay in cache

Residuals = Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """`theta_RP` with objectives `value_R`; `converged_R` where the last steps gained less than the tolerance."""

    theta_RP: Array
    value_R: Array
    converged_R: npt.NDArray[np.bool_]
    iterations: int


def minimise(
    residuals: Residuals,
    objective: Objective,
    start_RP: Array,
    *,
    weight_RN: Array | None = None,
    shift_RN: Array | None = None,
    free_RP: Array | None = None,
    tolerance: float = 1e-10,
    most: int = 200,
) -> Solution:
    """Minimise Σ weight · ρ(residual) from each of R starts.

    Args:
        residuals: θ of shape (R, P) → residuals (R, N) and derivatives (R, N, P).
        objective: which ρ.
        start_RP: where each problem begins.
        weight_RN: of every observation in every problem; ones where left out.
        shift_RN: what each problem's observations lie above those of `residuals`; zeros where left out.
        free_RP: which coordinates may move; all where left out.
        tolerance: relative gain of two successive steps below which a problem is done.
        most: steps at most.
    """
    parts = []
    problems = max(CHUNK // residuals(start_RP[:1])[0].shape[1], 1)
    for first in range(0, len(start_RP), problems):
        rows = slice(first, first + problems)
        weight, shift, free = (None if part is None else part[rows] for part in (weight_RN, shift_RN, free_RP))
        parts.append(_minimised(residuals, objective, start_RP[rows], weight, shift, free, tolerance, most))
    return Solution(
        theta_RP=np.concatenate([p.theta_RP for p in parts]),
        value_R=np.concatenate([p.value_R for p in parts]),
        converged_R=np.concatenate([p.converged_R for p in parts]),
        iterations=max(p.iterations for p in parts),
    )


def _minimised(
    residuals: Residuals,
    objective: Objective,
    start_RP: Array,
    weight_RN: Array | None,
    shift_RN: Array | None,
    free_RP: Array | None,
    tolerance: float,
    most: int,
) -> Solution:
    theta_RP = start_RP.astype(float).copy()
    weight_RN = np.ones((len(theta_RP), 1)) if weight_RN is None else weight_RN

    def at(place_RP: Array, rows: slice | npt.NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """Objectives, residuals and derivatives, 0 along what is held; no objective where the law has no derivative."""
        r_RN, slope_RNP = residuals(place_RP)
        if shift_RN is not None:
            r_RN = r_RN - shift_RN[rows]
        if free_RP is not None:
            slope_RNP = np.where(free_RP[rows][:, None, :] != 0, slope_RNP, 0.0)
        with np.errstate(invalid="ignore"):  # ∞ - ∞, which is no derivative
            slope_R = slope_RNP.sum(axis=(1, 2))
        return np.where(np.isfinite(slope_R), _total(objective, r_RN, weight_RN[rows]), np.inf), r_RN, slope_RNP

    value_R, r_RN, slope_RNP = at(theta_RP, slice(None))
    damping_R = np.full(len(theta_RP), 1e-2)
    gained_R = np.full(len(theta_RP), np.inf)  # of the step before
    converged_R = ~np.isfinite(value_R)  # nothing to be done from a start without a value
    active = np.flatnonzero(~converged_R)
    iteration = 0
    while len(active) and iteration < most:
        crawl = 1.0 if iteration < FIRST else CRAWL
        step_RP = _step(objective, r_RN[active], slope_RNP[active], weight_RN[active], damping_R[active], crawl)
        tried_RP = np.clip(theta_RP[active] + step_RP, -FARTHEST, FARTHEST)
        value_tried, r_tried, slope_tried = at(tried_RP, active)
        better = value_tried < value_R[active]
        gain = np.where(better, (value_R[active] - value_tried) / np.maximum(value_R[active], 1e-300), 0.0)
        moved = active[better]
        theta_RP[moved], r_RN[moved], slope_RNP[moved] = tried_RP[better], r_tried[better], slope_tried[better]
        value_R[moved] = value_tried[better]
        damping_R[active] = np.where(better, np.maximum(damping_R[active] / 5, 1e-9), damping_R[active] * 4)
        # Two small gains in a row, or no gain however short the step: one small gain may be a damped step's.
        done = (better & (gain < tolerance) & (gained_R[active] < tolerance)) | (damping_R[active] > MOST)
        done |= value_R[active] < EXACT * r_RN.shape[1]
        gained_R[moved] = gain[better]
        converged_R[active[done]] = True
        active = active[~done]
        iteration += 1
    return Solution(
        theta_RP=theta_RP, value_R=value_R, converged_R=converged_R & np.isfinite(value_R), iterations=iteration
    )


def _step(
    objective: Objective, r_RN: Array, slope_RNP: Array, weight_RN: Array, damping_R: Array, crawl: float
) -> Array:
    gradient_RP = (slope_RNP * (weight_RN * objective.psi(r_RN))[..., None]).sum(axis=1)
    curvature_RN = weight_RN * ((1 - crawl) * objective.inside(r_RN) + crawl * objective.reweighted(r_RN))
    hessian_RPP = np.swapaxes(slope_RNP * curvature_RN[..., None], 1, 2) @ slope_RNP
    diagonal_RP = np.einsum("rpp->rp", hessian_RPP)
    # A coordinate that nothing depends on (held, or a coefficient that has gone to 0) gets a step of 0.
    floor_R = 1e-14 * diagonal_RP.max(axis=1, initial=0.0) + 1e-300
    ridge_RP = damping_R[:, None] * diagonal_RP + floor_R[:, None]
    eye = np.eye(diagonal_RP.shape[1])
    return -np.linalg.solve(hessian_RPP + ridge_RP[:, :, None] * eye, gradient_RP[..., None])[..., 0]


def _total(objective: Objective, r_RN: Array, weight_RN: Array) -> Array:
    with np.errstate(invalid="ignore"):  # 0 · ∞, which is no value
        total_R = (weight_RN * objective.rho(r_RN)).sum(axis=1)
    return np.where(np.isfinite(total_R), total_R, np.inf)
