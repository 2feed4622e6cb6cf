"""What the law misses, as a Gaussian process about it: the law is the mean, and is believed as far as the runs allow.

    k = p² Σ_j V'_j V'_j k_s  +  m² V V k_sh  +  l² k_sh  +  f² k_s  +  c² k_o k_s

p: the optimum's path leaves the power law by so many e-folds; m: the valley's height is wrong by this share; l: a
difference of its own near the bottom; f: the floor is off by this much at a scale; c: what a choice outside the law is
worth. All Matérn 5/2 in the law's units, with k_s of the scale, k_sh of scale and settings, k_o of the choices. Sizes
are fitted by marginal likelihood with the law's parameters integrated out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from scalelab.laws.law import Array
from scalelab.samplers.law.mean import Points, Rows, joined

REACH_SIZE = 1.6  # e-folds of size over which what is missed is alike: assumed
REACH_HYPER = 1.4  # e-folds of a setting: assumed
REACH_CHOICE = 1.5
# ln of p, m, l, f, c and of the noise, the last four in shares of the loss: assumed, of the size that the optima of a
# sweep scatter about their law by (laws.joint.priors.SCATTER, MISFIT, NOISE), and more where there are few runs
PRIOR = np.log([0.20, 0.15, 0.0015, 0.0015, 0.01, 0.0015])
NOTHING = -3.0  # ln, beside the usual sizes
LESS, MORE = 6.0, (1.4, 1.0, 4.0, 4.0, 4.0, 4.0)  # ln, beside the usual: p and m have no meaning beyond
PRIOR_SD = np.array([0.5, 0.6, 1.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True, eq=False)
class At:
    """Points with the law's value (n,), derivatives (n, P), heights (n,) and derivatives by its optima (n, H)."""

    points: Points
    loss_N: Array
    slope_NP: Array
    height_N: Array
    by_optimum_NH: Array

    def __getitem__(self, rows: Rows) -> "At":
        return At(points=self.points[rows], loss_N=self.loss_N[rows], slope_NP=self.slope_NP[rows],
                  height_N=self.height_N[rows], by_optimum_NH=self.by_optimum_NH[rows])  # fmt: skip


def joined_at(each: Sequence[At]) -> At:
    """One after another."""
    return At(
        points=joined([at.points for at in each]), loss_N=np.concatenate([at.loss_N for at in each]),
        slope_NP=np.concatenate([at.slope_NP for at in each]), height_N=np.concatenate([at.height_N for at in each]),
        by_optimum_NH=np.concatenate([at.by_optimum_NH for at in each]),
    )  # fmt: skip


def matern(square: Array) -> Array:
    """Matérn 5/2 of squared distances in units of the reach."""
    root = np.sqrt(5.0 * np.maximum(square, 0.0))
    return np.asarray((1 + root + root**2 / 3) * np.exp(-root))


def _square(a_ND: Array, b_MD: Array) -> Array:
    return np.asarray((a_ND**2).sum(1)[:, None] + (b_MD**2).sum(1)[None, :] - 2 * a_ND @ b_MD.T)


def parts(a: At, b: At) -> Array:
    """The five kernels of unit size (5, n, m)."""
    size = _square(a.points.size_NT, b.points.size_NT) / REACH_SIZE**2
    hyper = _square(a.points.hyper_NH, b.points.hyper_NH) / REACH_HYPER**2
    other = _square(a.points.other_NO, b.points.other_NO) / 2 / REACH_CHOICE**2
    by_size, by_all, by_choice = matern(size), matern(size + hyper + other), matern(other)
    return np.stack([
        (a.by_optimum_NH @ b.by_optimum_NH.T) * by_size * by_choice,
        np.outer(a.height_N, b.height_N) * by_all,
        by_all,
        by_size,
        (by_choice if a.points.other_NO.shape[1] else 0.0 * by_choice) * matern(size / 4),
    ])  # fmt: skip


def covariance(log_size_K: Array, of: Array) -> Array:
    """Σ size² · part."""
    return np.asarray(np.tensordot(np.exp(2 * log_size_K[:5]), of, axes=1))


def covariance_diagonal(log_size_K: Array, at: At) -> Array:
    """The variances alone (n,)."""
    path, share, local, floor, chosen = np.exp(2 * log_size_K[:5])
    has_choice = float(at.points.other_NO.shape[1] > 0)
    return np.asarray(
        path * (at.by_optimum_NH**2).sum(axis=1) + share * at.height_N**2 + local + floor + chosen * has_choice
    )


def sizes(
    at: At, residual_N: Array, prior_sd_P: Array, inflation_N: Array, untold_N: Array, *, start_K: Array,
    none: bool = False,
) -> tuple[Array, float]:  # fmt: skip
    """ln sizes of the parts and of the noise that make the residuals most likely, and how likely, ln and up to a
    constant.

    Args:
        at: the runs.
        residual_N: loss minus the law's at its prior mean.
        prior_sd_P: of the law's parameters, which may still move: they are integrated out.
        inflation_N: by how much the variance of a run's noise is larger than usual (outliers).
        untold_N: variance of what no formula describes far up the valley.
        start_K: where to begin.
        none: hold all that the law could miss at next to nothing; then the prior of the sizes is not counted.
    """
    of = parts(at, at)
    scaled_NP = at.slope_NP * prior_sd_P
    n = len(residual_N)
    law_NN = scaled_NP @ scaled_NP.T + np.diag(untold_N + 1e-12)
    free = np.arange(4 if none else 0, 6)

    def surprise(free_K: Array) -> tuple[float, Array]:
        log_K = np.where(np.arange(6) < 4, PRIOR + NOTHING, PRIOR)
        log_K[free] = free_K
        each = np.exp(2 * log_K[:5])[:, None, None] * of
        noise_N = np.exp(2 * log_K[5]) * inflation_N
        factor = cho_factor(law_NN + each.sum(axis=0) + np.diag(noise_N), lower=True, check_finite=False)
        alpha_N = cho_solve(factor, residual_N, check_finite=False)
        pull_NN = cho_solve(factor, np.eye(n), check_finite=False) - np.outer(alpha_N, alpha_N)
        off_K = (log_K - PRIOR) / PRIOR_SD
        value = 0.5 * residual_N @ alpha_N + np.log(np.diag(factor[0])).sum() + 0.5 * off_K[free] @ off_K[free]
        slope_K = np.append((each * pull_NN).sum(axis=(1, 2)), (noise_N * np.diag(pull_NN)).sum()) + off_K / PRIOR_SD
        return float(value), slope_K[free]

    bounds = [(usual - LESS, usual + more) for usual, more in zip(PRIOR[free], np.array(MORE)[free], strict=True)]
    found = minimize(surprise, start_K[free], jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 25})
    log_K = start_K.copy()
    log_K[free] = found.x
    return log_K, -float(found.fun)
