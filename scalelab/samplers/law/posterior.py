"""The posterior: the law at its most likely, what it misses, and the covariance of any two losses.

The law's parameters are linearised about their most likely values, so that law and misses are one Gaussian process with
kernel J Σ₀ Jᵀ + k: a hundred numbers, exact algebra, milliseconds.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from scalelab.laws.law import Array
from scalelab.samplers.law import misses
from scalelab.samplers.law.mean import Law, Points
from scalelab.samplers.law.misses import At, joined_at

TRUSTED = 0.006  # height above the bottom, as a share of the loss, up to which the valley's formula is trusted
JITTER = 1e-12
DISTRUST, MOST_DISTRUST = 0.15, 0.5  # shares of the height by which it is wrong: near the bottom, and at most


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """The law at its most likely parameters `theta_P`, losses in units of their size `unit`; the runs behind it, the
    Cholesky factor of their covariance, ln sizes of the misses; `surplus` is by how much (ln) the runs are likelier
    with misses than without, where that was asked."""

    law: Law
    unit: float
    theta_P: Array
    prior_mean_P: Array
    prior_sd_P: Array
    runs: At
    residual_N: Array
    noise_N: Array
    log_size_K: Array
    factor: tuple[Array, bool]
    alpha_N: Array
    surplus: float

    def law_at(self, points: Points) -> At:
        """The law at points, linearised."""
        return law_at(self.law, self.theta_P, points)

    def prior_covariance(self, a: At, b: At) -> Array:
        """Of the losses at two sets of points, before the runs (n, m)."""
        variance_P = self.prior_sd_P**2
        return np.asarray((a.slope_NP * variance_P) @ b.slope_NP.T) + misses.covariance(
            self.log_size_K, misses.parts(a, b)
        )

    def missed(self, at: At) -> Array:
        """What the law is expected to miss (n,), divided by the unit."""
        return np.asarray(misses.covariance(self.log_size_K, misses.parts(at, self.runs)) @ self.alpha_N)

    def mean(self, at: At) -> Array:
        """Expected loss (n,), divided by the unit."""
        return np.asarray(at.loss_N + self.missed(at))

    def also(self, points: Points) -> "Posterior":
        """The posterior where runs at these points have ended as expected: what is known of running ones."""
        at = self.law_at(points)
        runs = joined_at([self.runs, at])
        residual_N = np.concatenate([self.residual_N, self.mean(at) - at.loss_N])
        noise_N = np.concatenate([self.noise_N, np.full(len(points), self.noise**2)])
        whole_NN = self.prior_covariance(runs, runs) + np.diag(noise_N + JITTER)
        factor = cho_factor(whole_NN, lower=True, check_finite=False)
        pulled_N = residual_N + runs.slope_NP @ (self.theta_P - self.prior_mean_P)
        return replace(self, runs=runs, residual_N=residual_N, noise_N=noise_N, factor=factor,
                       alpha_N=cho_solve(factor, pulled_N))  # fmt: skip

    def covariance(self, a: At, b: At) -> Array:
        """Posterior covariance of the losses at two sets of points (n, m)."""
        seen_a, seen_b = self.prior_covariance(self.runs, a), self.prior_covariance(self.runs, b)
        low = self.factor[0]
        white_a = solve_triangular(low, seen_a, lower=True, check_finite=False)
        white_b = white_a if b is a else solve_triangular(low, seen_b, lower=True, check_finite=False)
        return np.asarray(self.prior_covariance(a, b) - white_a.T @ white_b)

    def variance(self, at: At) -> Array:
        """Posterior variance of the losses (n,), run noise and what no formula describes far up the valley included."""
        seen_NM = self.prior_covariance(self.runs, at)
        white_NM = solve_triangular(self.factor[0], seen_NM, lower=True, check_finite=False)
        own_M = (at.slope_NP**2 @ self.prior_sd_P**2) + misses.covariance_diagonal(self.log_size_K, at)
        return np.asarray(own_M - (white_NM**2).sum(axis=0) + untold(at.height_N) ** 2)

    def parameters(self) -> tuple[Array, Array]:
        """Mean (P,) and covariance (P, P) of the law's parameters."""
        scaled_PN = (self.runs.slope_NP * self.prior_sd_P**2).T
        mean_P = self.prior_mean_P + scaled_PN @ self.alpha_N
        white_NP = solve_triangular(self.factor[0], scaled_PN.T, lower=True, check_finite=False)
        return mean_P, np.diag(self.prior_sd_P**2) - white_NP.T @ white_NP

    @property
    def noise(self) -> float:
        """Standard deviation of a run's loss, divided by the unit."""
        return float(np.exp(self.log_size_K[5]))


def law_at(law: Law, theta_P: Array, points: Points) -> At:
    loss, slope, height = law.slopes(theta_P[None], points)
    first = [law.first(place) for place in range(len(law.hypers))]
    return At(points=points, loss_N=loss[0], slope_NP=slope[0], height_N=height[0], by_optimum_NH=slope[0][:, first])


def untold(height_N: Array) -> Array:
    """Standard deviation of a loss about the valley's formula, beyond what runs nearby tell: small near the bottom."""
    return np.asarray(height_N * np.minimum(DISTRUST * np.sqrt(1 + (height_N / TRUSTED) ** 2), MOST_DISTRUST))
