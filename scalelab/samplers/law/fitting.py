"""Runs → the posterior.

Errors are not known before the law is, nor the law before its errors: a few turns of both. Priors have the tails of a
Huber loss: an exponent that the runs contradict is let go. A run's noise is inflated where it lies far up the valley
(no formula holds there) or far off what is expected (outliers). Small samples have more than one explanation: with the
exponents near their priors and much noise, or far from them and little; both are followed and the likelier is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from scalelab.laws.law import Array
from scalelab.laws.solve.least_squares import minimise
from scalelab.laws.solve.objective import Objective
from scalelab.samplers.law import misses
from scalelab.samplers.law.mean import Law, Points, Rows
from scalelab.samplers.law.misses import At
from scalelab.samplers.law.posterior import JITTER, Posterior, law_at, untold

OUTLIER = 2.5  # standard deviations
FIRST_SD = 0.005  # of a run's loss, before anything is known of its errors
BOUND_SD = 0.35  # e-folds: as in laws.joint.solve
TOLD = 128  # runs, the lowest in their valleys, from which the sizes of the misses are fitted
TURNS = 3
ROBUST = Objective(delta=OUTLIER)
MANY = 200  # runs that have one explanation only
WIDER = 3.0  # times the priors' standard deviations: the other explanation's first turn


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """What a law is fitted to: points and losses (n,), in units of the losses' size, of runs that ended; runs that
    diverged."""

    points: Points
    loss_N: Array
    bound: Bound | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Settled:
    """An explanation of the runs: parameters, the sizes of what they miss, how likely, ln, and by what that was judged:
    the arguments of `misses.sizes`."""

    theta_P: Array
    at: At
    let_go_P: Array
    pulled_N: Array
    noise_N: Array
    missed_NN: Array
    log_size_K: Array
    likely: float
    seen: tuple[At, Array, Array, Array, Array]


def fit(
    law: Law, runs: Runs, *, mean_P: Array, sd_P: Array, unit: float, starts: Sequence[Array], judged: bool = False
) -> Posterior:
    """The posterior of a law and its misses.

    Args:
        law: the law.
        runs: one that ended at least.
        mean_P: prior means of the parameters.
        sd_P: their standard deviations.
        unit: size of the losses.
        starts: parameter vectors to begin from.
        judged: whether the law fits is to be said, too.
    """
    start_RP = np.array([mean_P, *starts])
    wider_P = sd_P * np.where([" ~ " in name for name in law.names], WIDER, 1.0)
    best = _settled(law, runs, mean_P, sd_P, sd_P, start_RP, told=None)
    if len(runs.loss_N) <= MANY:
        lowest = np.argsort(best.noise_N, kind="stable")[:TOLD]
        far = _settled(law, runs, mean_P, sd_P, wider_P, start_RP, told=lowest)
        best = max(best, far, key=lambda settled: settled.likely)
    without = misses.sizes(*best.seen, start_K=best.log_size_K, none=True)[1] if judged else best.likely
    scaled_NP = best.at.slope_NP * best.let_go_P
    factor = cho_factor(scaled_NP @ scaled_NP.T + best.missed_NN, lower=True, check_finite=False)
    return Posterior(
        law=law, unit=unit, theta_P=best.theta_P, prior_mean_P=mean_P, prior_sd_P=best.let_go_P, runs=best.at,
        residual_N=runs.loss_N - best.at.loss_N, noise_N=best.noise_N, log_size_K=best.log_size_K, factor=factor,
        alpha_N=cho_solve(factor, best.pulled_N), surplus=best.likely - without,
    )  # fmt: skip


def _settled(
    law: Law, runs: Runs, mean_P: Array, sd_P: Array, first_sd_P: Array, theta_RP: Array, *, told: Rows | None
) -> _Settled:  # fmt: skip
    """Parameters and errors after a few turns, the first with other priors' widths; `told` are the runs by which sizes
    are judged, the lowest in their valleys where left out."""
    loss_N, log_size_K = runs.loss_N, misses.PRIOR
    low_NN = np.diag(np.full(len(loss_N), FIRST_SD))
    for turn in range(TURNS):
        theta_P = _solved(law, runs, low_NN, mean_P, sd_P if turn else first_sd_P, theta_RP)
        theta_RP = theta_P[None]
        at = law_at(law, theta_P, runs.points)
        residual_N = loss_N - at.loss_N
        # Seen heights, not the law's: a law that puts a run high up would else be free to be wrong about it.
        untold_N = untold(np.maximum(loss_N - (at.loss_N - at.height_N), 0.0)) ** 2
        inflation_N = _inflation(at, residual_N, log_size_K, untold_N, first=turn == 0)
        let_go_P = sd_P * np.sqrt(np.maximum(np.abs(theta_P - mean_P) / sd_P / OUTLIER, 1.0))
        pulled_N = residual_N + at.slope_NP @ (theta_P - mean_P)
        rows = np.argsort(untold_N, kind="stable")[:TOLD] if told is None else told
        seen = (at[rows], pulled_N[rows], let_go_P, inflation_N[rows], untold_N[rows])
        log_size_K, likely = misses.sizes(*seen, start_K=log_size_K)
        noise_N = np.exp(2 * log_size_K[5]) * inflation_N + untold_N
        missed_NN = misses.covariance(log_size_K, misses.parts(at, at)) + np.diag(noise_N + JITTER)
        low_NN = np.linalg.cholesky(missed_NN)
    return _Settled(
        theta_P=theta_P, at=at, let_go_P=let_go_P, pulled_N=pulled_N, noise_N=noise_N, missed_NN=missed_NN,
        log_size_K=log_size_K, likely=likely, seen=seen,
    )  # fmt: skip


def _solved(law: Law, runs: Runs, low_NN: Array, mean_P: Array, sd_P: Array, theta_RP: Array) -> Array:
    """The most likely parameters, from the best of several starts; errors have the covariance L Lᵀ."""
    whiten_NN = solve_triangular(low_NN, np.eye(len(runs.loss_N)), lower=True, check_finite=False)
    prior_PP = np.diag(1 / sd_P)

    def residuals(theta_RP: Array) -> tuple[Array, Array]:
        loss_RN, slope_RNP, _ = law.slopes(theta_RP, runs.points)
        rows = [(loss_RN - runs.loss_N) @ whiten_NN.T, (theta_RP - mean_P) / sd_P]
        slopes = [whiten_NN @ slope_RNP, np.broadcast_to(prior_PP, (len(theta_RP), *prior_PP.shape))]
        if runs.bound is not None:
            above_RM, above_RMP = runs.bound.beyond(law, theta_RP)
            rows.append(above_RM)
            slopes.append(above_RMP)
        return np.concatenate(rows, axis=1), np.concatenate(slopes, axis=1)

    found = minimise(residuals, ROBUST, theta_RP, tolerance=1e-4, most=40)
    return np.asarray(found.theta_RP[np.argmin(found.value_R)])


def _inflation(at: At, residual_N: Array, log_size_K: Array, untold_N: Array, *, first: bool) -> Array:
    """By how much the variance of an outlier's noise is above the noise's."""
    variance_N = np.exp(2 * log_size_K[5]) + untold_N + misses.covariance_diagonal(log_size_K, at)
    off_N = np.abs(residual_N) / np.sqrt(variance_N + (FIRST_SD**2 if first else 0.0))
    return np.asarray(np.maximum(off_N / OUTLIER, 1.0) ** 2)
