"""Runs → the posterior: the law at its most likely, what it misses, and the covariance of any two losses.

The law's parameters are linearised about their most likely values, so that law and misses are one Gaussian process with
kernel J Σ₀ Jᵀ + k: a hundred numbers, exact algebra, milliseconds. Priors have the tails of a Student-t: an exponent
that the runs contradict is let go. A run's noise is inflated where it lies far up the valley (no formula holds there)
or far off what is expected (outliers).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from scalelab.laws.law import Array
from scalelab.laws.solve.least_squares import minimise
from scalelab.laws.solve.objective import Objective
from scalelab.samplers.law import misses
from scalelab.samplers.law.mean import Law, Points
from scalelab.samplers.law.misses import At, joined_at

OUTLIER = 2.5  # standard deviations
TRUSTED = 0.006  # height above the bottom, as a share of the loss, up to which the valley's formula is trusted
TOLD = 160  # runs, the lowest in their valleys, from which the sizes of the misses are fitted
JITTER = 1e-12
BOUND_SD = 0.35  # e-folds: as in laws.joint.solve
FIRST_SD = 0.005  # of a run's loss, before anything is known of its errors
DISTRUST = 0.15
TURNS = 3
ROBUST = Objective(delta=OUTLIER)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Bound:
    """Runs that diverged (m): the optimum of hyperparameter `place` lies below what they had."""

    place: int
    points: Points

    def beyond(self, law: Law, theta_RP: Array) -> tuple[Array, Array]:
        """By how many standard deviations the optimum lies above each divergence (R, m), and derivatives (R, m, P)."""
        above_RM = law.optimum(theta_RP, self.points)[..., self.place] - self.points.hyper_NH[:, self.place]
        i, t = law.first(self.place), len(law.sizes)
        slope_RMP = np.zeros((*above_RM.shape, theta_RP.shape[1]))
        slope_RMP[..., i] = 1.0
        slope_RMP[..., i + 1 : i + 1 + t] = self.points.size_NT
        slope_RMP[..., i + 1 + t] = 0.5 * self.points.cost_N**2
        on_RM = above_RM > 0
        return above_RM * on_RM / BOUND_SD, slope_RMP * on_RM[..., None] / BOUND_SD


def fit(
    law: Law, points: Points, loss_N: Array, *, mean_P: Array, sd_P: Array, unit: float, starts: Sequence[Array],
    bound: Bound | None = None, judged: bool = False,
) -> Posterior:  # fmt: skip
    """The posterior of a law and its misses.

    Args:
        law: the law.
        points: of the runs that ended.
        loss_N: their losses, divided by `unit`.
        mean_P: prior means of the parameters.
        sd_P: their standard deviations.
        unit: size of the loss.
        starts: parameter vectors to begin from; the most likely end is taken.
        bound: runs that diverged.
        judged: whether the law fits is to be said, too.
    """
    low_NN = np.diag(np.full(len(loss_N), FIRST_SD))
    theta_RP = np.array([mean_P, *starts])
    log_size_K = misses.PRIOR
    for turn in range(TURNS):
        theta_P = _solved(law, points, loss_N, low_NN, mean_P, sd_P, theta_RP, bound)
        theta_RP = theta_P[None]
        at = law_at(law, theta_P, points)
        residual_N = loss_N - at.loss_N
        # Seen heights, not the law's: a law that puts a run high up would else be free to be wrong about it.
        untold_N = untold(np.maximum(loss_N - (at.loss_N - at.height_N), 0.0)) ** 2
        inflation_N = _inflation(at, residual_N, log_size_K, untold_N, first=turn == 0)
        let_go_P = sd_P * np.sqrt(np.maximum(np.abs(theta_P - mean_P) / sd_P / OUTLIER, 1.0))
        pulled_N = residual_N + at.slope_NP @ (theta_P - mean_P)
        told = np.argsort(untold_N, kind="stable")[:TOLD]
        seen = (at[told], pulled_N[told], let_go_P, inflation_N[told], untold_N[told])
        log_size_K, likely = misses.sizes(*seen, start_K=log_size_K)
        noise_N = np.exp(2 * log_size_K[5]) * inflation_N + untold_N
        missed_NN = misses.covariance(log_size_K, misses.parts(at, at)) + np.diag(noise_N + JITTER)
        low_NN = np.linalg.cholesky(missed_NN)
    surplus = likely - misses.sizes(*seen, start_K=log_size_K, none=True)[1] if judged else 0.0
    scaled_NP = at.slope_NP * let_go_P
    factor = cho_factor(scaled_NP @ scaled_NP.T + missed_NN, lower=True, check_finite=False)
    return Posterior(
        law=law, unit=unit, theta_P=theta_P, prior_mean_P=mean_P, prior_sd_P=let_go_P, runs=at, residual_N=residual_N,
        noise_N=noise_N, log_size_K=log_size_K, factor=factor, alpha_N=cho_solve(factor, pulled_N), surplus=surplus,
    )  # fmt: skip


def _solved(
    law: Law,
    points: Points,
    loss_N: Array,
    low_NN: Array,
    mean_P: Array,
    sd_P: Array,
    theta_RP: Array,
    bound: Bound | None,
) -> Array:
    """The most likely parameters, from the best of several starts; errors have the covariance L Lᵀ."""
    whiten_NN = solve_triangular(low_NN, np.eye(len(loss_N)), lower=True, check_finite=False)
    prior_PP = np.diag(1 / sd_P)

    def residuals(theta_RP: Array) -> tuple[Array, Array]:
        loss_RN, slope_RNP, _ = law.slopes(theta_RP, points)
        rows = [(loss_RN - loss_N) @ whiten_NN.T, (theta_RP - mean_P) / sd_P]
        slopes = [whiten_NN @ slope_RNP, np.broadcast_to(prior_PP, (len(theta_RP), *prior_PP.shape))]
        if bound is not None:
            above_RM, above_RMP = bound.beyond(law, theta_RP)
            rows.append(above_RM)
            slopes.append(above_RMP)
        return np.concatenate(rows, axis=1), np.concatenate(slopes, axis=1)

    found = minimise(residuals, ROBUST, theta_RP, tolerance=1e-4, most=40)
    return np.asarray(found.theta_RP[np.argmin(found.value_R)])


def untold(height_N: Array) -> Array:
    """Standard deviation of a loss about the valley's formula, beyond what runs nearby tell: small near the bottom."""
    return np.asarray(DISTRUST * height_N * np.sqrt(1 + (height_N / TRUSTED) ** 2))


def _inflation(at: At, residual_N: Array, log_size_K: Array, untold_N: Array, *, first: bool) -> Array:
    """By how much the variance of an outlier's noise is above the noise's."""
    variance_N = np.exp(2 * log_size_K[5]) + untold_N + misses.covariance_diagonal(log_size_K, at)
    off_N = np.abs(residual_N) / np.sqrt(variance_N + (FIRST_SD**2 if first else 0.0))
    return np.asarray(np.maximum(off_N / OUTLIER, 1.0) ** 2)
