"""Refits near an optimum: of resamples, or with a coordinate held.

A positive coefficient is fitted as its logarithm. Where the best fit does without a term, the logarithm has run off to
where nothing depends on it, and from there no step leads back, although a resample, or another value of the coordinate
held, may need the term. Refits are therefore also begun where such terms matter, and the lower end counts. Otherwise
intervals of what the term trades off with would be far too short.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from scalelab.laws.law import Array
from scalelab.laws.solve.least_squares import Solution, minimise
from scalelab.laws.solve.objective import Objective
from scalelab.laws.solve.problem import FARTHEST, Problem

GONE = 1e-3  # largest change of ln output by ln coefficient: of one whose term the optimum does without
BACK = 0.3  # the same where refits begin with it


def refit(
    problem: Problem,
    theta_P: Array,
    start_RP: Array,
    *,
    objective: Objective,
    free_RP: Array | None = None,
    **options: Any,
) -> Solution:
    """`minimise` from `start_RP`, points near the optimum `theta_P`, and from the same with lost terms brought back."""
    quick = replace(problem, exact=False)
    solved = minimise(quick.residuals, objective, start_RP, free_RP=free_RP, **options)
    shift_P = _back(problem, theta_P)
    if not shift_P.any():
        return solved
    start_RP = start_RP + shift_P * (1.0 if free_RP is None else free_RP)
    other = minimise(quick.residuals, objective, start_RP, free_RP=free_RP, **options)
    lower_R = other.value_R < solved.value_R
    return Solution(
        theta_RP=np.where(lower_R[:, None], other.theta_RP, solved.theta_RP),
        value_R=np.where(lower_R, other.value_R, solved.value_R),
        converged_R=np.where(lower_R, other.converged_R, solved.converged_R),
        iterations=max(solved.iterations, other.iterations),
    )


def _back(problem: Problem, theta_P: Array) -> Array:
    """What brings coefficients back on which nothing depends at θ; zeros for all others."""
    p = len(theta_P)
    share_P = _shares(problem, theta_P[None])[0]
    lost_P = problem.positive_P & (share_P < GONE)
    if not lost_P.any():
        return np.zeros(p)
    # Most are lost at 0; one that a law saturates in is lost at infinity.
    rising_P = np.diag(_shares(problem, theta_P + np.eye(p))) >= share_P
    far_P = np.log(BACK / np.maximum(share_P, np.exp(-FARTHEST)))
    return np.where(lost_P, np.where(rising_P, far_P, -far_P), 0.0)


def _shares(problem: Problem, theta_RP: Array) -> Array:
    """The largest change of ln output by each coordinate, (R, P)."""
    with np.errstate(all="ignore"):
        slope_RNP = problem.log_values(theta_RP)[1]
    return np.asarray(np.nan_to_num(np.abs(slope_RNP).max(axis=1), nan=np.inf))
