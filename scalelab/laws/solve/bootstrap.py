"""Cluster bootstrap: whole cells or runs are drawn with replacement, and the law refitted to each resample.

A resample is a vector of weights, how often each cluster was drawn, so that all refits are one batch of problems that
starts at the optimum. Resampling understates the spread of a fit with few clusters: it has only the residuals that P
coordinates have already been fitted to. Deviations from the optimum are therefore stretched by √(C/(C−P)) and by the
ratio of Student's t to the normal at 95 %, which makes percentiles of the draws the intervals that they are taken for
(their coverage is tested by simulation).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from scalelab.errors import Refused
from scalelab.laws.law import Array
from scalelab.laws.solve.objective import Objective
from scalelab.laws.solve.problem import Problem
from scalelab.laws.solve.refit import refit

WEBB = np.array([sign * np.sqrt(k / 2) for sign in (-1, 1) for k in (1, 2, 3)])
TOLERANCE = 1e-7  # of a refit: far below what its percentile needs
BLOCK = 2**22  # weights that are held at a time
OTHER = 30.0  # of a coordinate: no coefficient that matters on both sides changes by a factor of e^30
SHARPEST = 0.03  # of the δ that suits the residuals: with one far smaller, refits stick near where they start


@dataclass(frozen=True, kw_only=True, eq=False)
class Bootstrap:
    """`theta_DP` are the stretched draws; `failed` resamples did not converge and were left out."""

    theta_DP: Array
    failed: int


def bootstrap(
    problem: Problem, theta_P: Array, cluster_N: npt.NDArray[np.intp], *, draws: int, rng: np.random.Generator
) -> Bootstrap:
    """Refit to `draws` resamples of the clusters, numbered 0..C−1 in `cluster_N`.

    Raises:
        Refused: with no more clusters than coordinates.
    """
    clusters, p = int(cluster_N.max()) + 1, len(theta_P)
    if clusters <= p:
        raise Refused(f"{clusters} independent runs or cells for {p} parameters: a law needs more of them than that")
    at_a_time = max(BLOCK // len(cluster_N), 1)
    theta_DP = np.concatenate([
        _refitted(problem, theta_P, cluster_N, min(at_a_time, draws - first), rng)
        for first in range(0, draws, at_a_time)
    ])  # fmt: skip
    return Bootstrap(theta_DP=_stretched(theta_P, theta_DP, stretch(clusters, p)), failed=draws - len(theta_DP))


def _refitted(
    problem: Problem, theta_P: Array, cluster_N: npt.NDArray[np.intp], draws: int, rng: np.random.Generator
) -> Array:
    clusters = int(cluster_N.max()) + 1
    counts_DC = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws).astype(float)
    # A resample with too few distinct clusters has no optimum of its own.
    enough = (counts_DC > 0).sum(axis=1) > len(theta_P)
    counts_DC = counts_DC[enough] if enough.any() else counts_DC + 1e-3
    solved = refit(
        problem, theta_P, np.repeat(theta_P[None], len(counts_DC), axis=0), objective=_rounded(problem, theta_P),
        weight_RN=counts_DC[:, cluster_N], tolerance=TOLERANCE, most=100,
    )  # fmt: skip
    return solved.theta_RP[np.isfinite(solved.value_R)]


def simulated(
    problem: Problem, theta_P: Array, cluster_N: npt.NDArray[np.intp], sd: float, *, draws: int,
    rng: np.random.Generator,
) -> Bootstrap:  # fmt: skip
    """Refit to `draws` sets of observations simulated from the fit, for clusters too few to resample.

    Independent observations get normal errors of standard deviation `sd` (of the residuals, freed of what was fitted).
    Observations that err together get their own residuals back, times one of Webb's six weights a cluster (wild cluster
    bootstrap: Cameron, Gelbach & Miller 2008, doi:10.1162/rest.90.3.414).
    """
    n, p, clusters = len(cluster_N), len(theta_P), int(cluster_N.max()) + 1
    if clusters <= p:
        raise Refused(f"{clusters} independent runs or cells for {p} parameters: a law needs more of them than that")
    residual_N = problem.residuals(theta_P[None])[0][0]
    if clusters == n:
        error_DN = sd * rng.standard_normal((draws, n))
    else:
        error_DN = np.sqrt(clusters / (clusters - p)) * residual_N * rng.choice(WEBB, (draws, clusters))[:, cluster_N]
    # Simulated observations are the fitted values plus errors; residuals are fitted minus observed.
    solved = refit(
        problem, theta_P, np.repeat(theta_P[None], draws, axis=0), objective=_rounded(problem, theta_P),
        shift_RN=residual_N + error_DN, tolerance=TOLERANCE, most=100,
    )  # fmt: skip
    kept_DP = solved.theta_RP[np.isfinite(solved.value_R)]
    tails = float(stats.t.ppf(0.975, clusters - p) / stats.norm.ppf(0.975))
    return Bootstrap(theta_DP=_stretched(theta_P, kept_DP, tails), failed=draws - len(kept_DP))


def _rounded(problem: Problem, theta_P: Array) -> Objective:
    """The problem's objective, its corner no sharper than refits can follow; the optimum hardly moves with it."""
    if not np.isfinite(problem.objective.delta):
        return problem.objective
    suited = problem.objective.scaled(problem.residuals(theta_P[None])[0][0]).delta
    return replace(problem.objective, delta=max(problem.objective.delta, SHARPEST * suited))


def around(theta_P: Array, covariance_PP: Array, *, draws: int, rng: np.random.Generator) -> Bootstrap:
    """Normal draws with a given covariance, what resamples tend to with many clusters."""
    variance_P, axis_PP = np.linalg.eigh(covariance_PP)
    normal_DP = rng.standard_normal((draws, len(theta_P))) * np.sqrt(np.maximum(variance_P, 0.0))
    return Bootstrap(theta_DP=theta_P + normal_DP @ axis_PP.T, failed=0)


def _stretched(theta_P: Array, theta_DP: Array, by: float) -> Array:
    """Draws farther from the optimum; those that differ in which terms there are stay where they are."""
    apart_DP = theta_DP - theta_P
    by_D1 = np.where(np.abs(apart_DP).max(axis=1, keepdims=True) > OTHER, 1.0, by)
    return np.asarray(theta_P + by_D1 * apart_DP)


def stretch(clusters: int, p: int) -> float:
    """By how much draws are stretched for the degrees of freedom that the fit has used.

    >>> round(stretch(1000, 5), 3), round(stretch(10, 5), 2)
    (1.004, 1.85)
    """
    dof = clusters - p
    return float(np.sqrt(clusters / dof) * stats.t.ppf(0.975, dof) / stats.norm.ppf(0.975))
