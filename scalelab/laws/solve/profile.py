"""Profile likelihood: how far can one coordinate move before the best that the others can do is too bad?

Each coordinate is held at points on either side of its optimum and all others are refitted; the interval ends where the
objective has risen by the 95 % quantile (Venzon & Moolgavkar 1988, doi:10.2307/2347496). A side on which it never does
is open: the data do not bound the parameter there, and the interval says so in place of a number. Rises are calibrated
for clusters by their design effect (Chandler & Bate 2007, doi:10.1093/biomet/asm015).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from scalelab.laws.law import Array
from scalelab.laws.solve.covariance import Covariance
from scalelab.laws.solve.least_squares import minimise
from scalelab.laws.solve.problem import Problem
from scalelab.laws.solve.refit import refit

# Standard deviations from the optimum. The near ones trace the shape; the far ones find out whether it is open.
POINTS = (0.7, 1.4, 2.0, 2.6, 3.3, 4.5, 6.5, 10.0, 20.0, 50.0)
TOLERANCE = 1e-8
PASSES = 3  # over points that have stuck
LOWER = 1e-3  # in χ²: far below what moves a limit
LARGEST_SD = 3.0  # of a coordinate that a flat direction gives any standard deviation, in its own units


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """95 % limits of every coordinate, shape (P,), infinite where open; `theta_PK` and `root_PK` trace the profile: the
    coordinate's value and the signed root of the χ² there."""

    low_P: Array
    high_P: Array
    theta_PK: Array
    root_PK: Array
    better_P: Array | None


def profile(problem: Problem, theta_P: Array, value: float, spread: Covariance, *, clusters: int) -> Profile:
    """Profile every coordinate at once. `better_P` is a point with a lower objective than `value`, if one was met."""
    p = len(theta_P)
    sd_P = np.clip(spread.sd_P, 1e-12, LARGEST_SD)
    offset_K = np.array([-x for x in reversed(POINTS)] + list(POINTS))
    k = len(offset_K)
    held = np.repeat(np.arange(p), k)
    shift_R = np.tile(offset_K, p) * sd_P[held]
    # Where the others would go to first order; far out that is a guess, and they start from the optimum's own.
    along_PP = spread.matrix_PP / np.maximum(np.diag(spread.matrix_PP), 1e-150)[None, :]
    start_RP = theta_P + np.where(np.abs(np.tile(offset_K, p)) < 7, shift_R, 0.0)[:, None] * along_PP[:, held].T
    start_RP[np.arange(len(held)), held] = theta_P[held] + shift_R
    free_RP = np.ones((len(held), p))
    free_RP[np.arange(len(held)), held] = 0.0
    solved = refit(problem, theta_P, start_RP, objective=problem.objective, free_RP=free_RP, tolerance=TOLERANCE)
    at_RP, value_R = solved.theta_RP, solved.value_R
    per_value_P = spread.per_rho / spread.design_effect_P()
    limit = float(stats.t.ppf(0.975, max(clusters - p, 1)))
    for _ in range(PASSES):
        donor_R = _donors((value_R - value).reshape(p, k) * per_value_P[:, None], limit**2)
        rows = np.flatnonzero(donor_R >= 0)
        if not len(rows):
            break
        again_RP = at_RP[donor_R[rows]]
        again_RP[np.arange(len(rows)), held[rows]] = start_RP[rows, held[rows]]
        again = minimise(problem.residuals, problem.objective, again_RP, free_RP=free_RP[rows], tolerance=TOLERANCE)
        lower = again.value_R < value_R[rows]
        at_RP[rows[lower]], value_R[rows[lower]] = again.theta_RP[lower], again.value_R[lower]
    rise_PK = (value_R - value).reshape(p, k) * per_value_P[:, None]
    root_PK = np.sign(offset_K) * np.sqrt(np.maximum(rise_PK, 0.0))
    theta_PK = theta_P[:, None] + offset_K * sd_P[:, None]
    low_P = np.array([_crossing(theta_PK[j, : k // 2][::-1], -root_PK[j, : k // 2][::-1], theta_P[j], limit)
                      for j in range(p)])  # fmt: skip
    high_P = np.array([_crossing(theta_PK[j, k // 2 :], root_PK[j, k // 2 :], theta_P[j], limit) for j in range(p)])
    lowest = int(np.argmin(value_R))
    improved = value_R[lowest] < value * (1 - 1e-6) - 1e-300
    return Profile(
        low_P=np.where(np.isnan(low_P), -np.inf, low_P),
        high_P=np.where(np.isnan(high_P), np.inf, high_P),
        theta_PK=theta_PK,
        root_PK=root_PK,
        better_P=at_RP[lowest] if improved else None,
    )


def _donors(rise_PK: Array, limit: float) -> npt.NDArray[np.intp]:
    """From whose end each point should be refitted, −1 for most.

    A point that ends higher than one farther out has stuck on its way, and so may the first one beyond the limit, on
    which the interval rests: the former goes on from the lowest end farther out, the latter from its neighbour's.
    """
    p, k = rise_PK.shape
    donor_PK = np.full((p, k), -1)
    for j in range(p):
        for outwards in (np.arange(k // 2)[::-1], np.arange(k // 2, k)):
            rise = rise_PK[j, outwards]
            below = np.flatnonzero(rise < limit)
            if len(below) and below[-1] + 1 < len(rise):
                donor_PK[j, outwards[below[-1] + 1]] = j * k + outwards[below[-1]]
            for i in range(len(rise) - 1):
                farther = i + 1 + int(np.argmin(rise[i + 1 :]))
                if rise[i] > rise[farther] + LOWER:
                    donor_PK[j, outwards[i]] = j * k + outwards[farther]
    return donor_PK.ravel()


def _crossing(at_K: Array, root_K: Array, centre: float, limit: float) -> float:
    """Where the root, going outwards from the optimum, first passes the limit for good; NaN where it does not."""
    at = np.concatenate([[centre], at_K])
    root = np.concatenate([[0.0], np.where(np.isfinite(root_K), root_K, np.inf)])
    below = np.flatnonzero(root < limit)
    last = int(below[-1])
    if last + 1 == len(root):
        return float("nan")
    if not np.isfinite(root[last + 1]):
        return float(at[last + 1])
    share = (limit - root[last]) / (root[last + 1] - root[last])
    return float(at[last] + share * (at[last + 1] - at[last]))
