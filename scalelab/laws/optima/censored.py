"""Linear regression where some responses are known only to lie in an interval (Tobit, with two-sided limits).

The response of row n is normal around X β with variance `variance_N`; a row is a value, or an interval low..high that
may be open on one side. The log-likelihood is concave in β. It is maximised by expectation-maximisation: replace each
interval by the expected response within it, solve the weighted least squares, repeat. Draws of β come from the same
loop with the expectation replaced by a random response (data augmentation, Tanner & Wong 1987, doi:10.2307/2289457),
one chain a draw, which gives the posterior under a flat prior; without intervals it is a parametric bootstrap.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from scalelab.errors import Refused
from scalelab.laws.law import Array

SWEEPS = 60  # chains start at the maximum; intervals seldom carry most of the information
ITERATIONS = 2000


def maximum(design_NP: Array, low_N: Array, high_N: Array, variance_N: Array) -> Array:
    """The maximum-likelihood β of shape (P,); rows with low = high are values.

    Where wide intervals leave a plateau, any point of it is a maximum; the one nearest to the start is returned.

    Raises:
        Refused: where the rows bounded on both sides do not determine β, so that it could run off to infinity.
    """
    closed_N = np.isfinite(low_N) & np.isfinite(high_N)
    if np.linalg.matrix_rank(design_NP[closed_N], tol=1e-6) < design_NP.shape[1]:
        raise Refused("the bounds of the optima leave the law undetermined: extend the LR grids of the cells marked so")
    solve_PN = weighted_inverse(design_NP, variance_N[None])[0]
    response_N = _middle(low_N, high_N, variance_N)
    beta_P = solve_PN @ response_N
    interval_N = low_N < high_N
    if not interval_N.any():
        return np.asarray(beta_P)
    sd_N = np.sqrt(variance_N)
    for _ in range(ITERATIONS):
        mean_N = design_NP @ beta_P
        expected_N = mean_N + sd_N * _truncated_mean((low_N - mean_N) / sd_N, (high_N - mean_N) / sd_N)
        response_N = np.where(interval_N, np.clip(expected_N, low_N, high_N), response_N)
        before_P, beta_P = beta_P, solve_PN @ response_N
        if np.abs(beta_P - before_P).max() < 1e-9:
            break
    return np.asarray(beta_P)


def sample(
    design_NP: Array,
    low_N: Array,
    high_N: Array,
    variance_DN: Array,
    noise: Callable[[], Array],
    start_P: Array,
    rng: np.random.Generator,
) -> Array:
    """Draws of β, shape (draws, P). `noise()` gives fresh errors (draws, N) of the rows that are values."""
    solve_DPN = weighted_inverse(design_NP, variance_DN)
    interval_N = low_N < high_N
    sd_DN = np.sqrt(variance_DN)
    beta_DP = np.repeat(start_P[None], len(variance_DN), axis=0)
    for _ in range(SWEEPS if interval_N.any() else 1):
        mean_DN = beta_DP @ design_NP.T
        response_DN = np.where(interval_N, mean_DN, low_N + noise())
        if interval_N.any():
            inside = interval_N.nonzero()[0]
            mean, sd = mean_DN[:, inside], sd_DN[:, inside]
            z = _truncated_draw((low_N[inside] - mean) / sd, (high_N[inside] - mean) / sd, rng)
            held = np.clip(mean + sd * z, low_N[inside], high_N[inside])
            response_DN[:, inside] = held + sd * rng.standard_normal(held.shape)
        beta_DP = np.einsum("dpn,dn->dp", solve_DPN, response_DN)
    return beta_DP


def weighted_inverse(design_NP: Array, variance_DN: Array) -> Array:
    """(XᵀWX)⁻¹XᵀW with W = 1/variance, shape (draws, P, N): applied to responses it gives weighted least squares."""
    weighted_DPN = design_NP.T[None] / variance_DN[:, None, :]
    return np.asarray(np.linalg.solve(weighted_DPN @ design_NP, weighted_DPN), dtype=np.float64)


def _middle(low_N: Array, high_N: Array, variance_N: Array) -> Array:
    sd_N = np.sqrt(variance_N)
    finite_low = np.where(np.isfinite(low_N), low_N, high_N - 2 * sd_N)
    finite_high = np.where(np.isfinite(high_N), high_N, low_N + 2 * sd_N)
    return np.asarray((finite_low + finite_high) / 2, dtype=float)


def _upright(low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Standard-normal limits mirrored into the lower tail, where log Φ is accurate, and the sign of the mirroring."""
    mirrored = low + high > 0
    return np.where(mirrored, -high, low), np.where(mirrored, -low, high), np.where(mirrored, -1.0, 1.0)


def _log_mass(low: Array, high: Array) -> Array:
    top = log_ndtr(high)
    return np.asarray(top + np.log1p(-np.exp(np.minimum(log_ndtr(low) - top, -1e-15))))


def _truncated_mean(low: Array, high: Array) -> Array:
    """Mean of a standard normal between the limits (0 where both are infinite or they coincide)."""
    low, high, sign = _upright(low, high)
    open_ = low < high
    low, high = np.where(open_, low, -np.inf), np.where(open_, high, np.inf)
    mass = _log_mass(low, high)
    density_low, density_high = (np.exp(-0.5 * x**2 - 0.5 * np.log(2 * np.pi) - mass) for x in (low, high))
    return np.asarray(sign * (density_low - density_high))


def _truncated_draw(low: Array, high: Array, rng: np.random.Generator) -> Array:
    low, high, sign = _upright(low, high)
    share = np.log(rng.uniform(size=low.shape))
    return np.asarray(sign * ndtri_exp(np.logaddexp(log_ndtr(low), share + _log_mass(low, high))))
