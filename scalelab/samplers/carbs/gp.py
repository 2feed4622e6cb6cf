"""Gaussian-process regression: exact marginal likelihood with analytic gradients, in float64.

The kernel of points z (Rasmussen & Williams 2006, eq. 4.17 with a length per dimension, and § 2.7) is

    1 + slope² z·z′ + signal² (1 + √5 r + 5r²/3) exp(−√5 r) + noise² [same observation],  r² = Σ (z − z′)²/length²

A length is shared by the columns of one dimension. Everything is in units of the search's scales and of standardised
outputs, so that one prior over the hyperparameters fits all: it is what keeps ten observations from explaining
themselves by noise alone, or by one dimension alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize
from scipy.spatial.distance import cdist

from scalelab.errors import Refused

Array = NDArray[np.float64]
Integers = NDArray[np.intp]
SIGNAL, NOISE, SLOPE = 0, 1, 2  # places in theta_P, logs of standard deviations; the lengths of K dimensions follow
MEANS = np.log([1.0, 0.1, 0.1])  # of the priors' logs: assumed; noise as arXiv:2012.03826
SDS = np.array([1.0, 1.0, 1.0])
LENGTH, LENGTH_SD = 3.0, 1.0  # times √K, in search scales (arXiv:2402.02229 for the √K)
LOW, HIGH = 1e-3, 1e3  # of every hyperparameter; a covariance keeps full rank in float64 between them
STEPS = 40  # of L-BFGS
JITTER = 1e-9  # of the mean variance


@dataclass(frozen=True, kw_only=True)
class Process:
    """A posterior: hyperparameters, and the observations it is conditioned on."""

    theta_P: Array
    dimension_D: Integers
    z_ND: Array
    y_N: Array
    factor_NN: Array
    weights_N: Array

    @property
    def noise(self) -> float:
        """Standard deviation of an observation about the function."""
        return float(np.exp(self.theta_P[NOISE]))

    def mean(self, z_MD: Array) -> Array:
        """Of the function itself, at M points."""
        return np.asarray(_kernel(self.theta_P, self.dimension_D, z_MD, self.z_ND) @ self.weights_N)

    def predict(self, z_MD: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the function itself, without the noise of an observation."""
        cross_MN = _kernel(self.theta_P, self.dimension_D, z_MD, self.z_ND)
        solved_NM = linalg.solve_triangular(self.factor_NN, cross_MN.T, lower=True, check_finite=False)
        slope, signal = np.exp(2 * self.theta_P[SLOPE]), np.exp(2 * self.theta_P[SIGNAL])
        prior_M = 1 + slope * np.sum(z_MD**2, axis=1) + signal
        variance_M = np.maximum(prior_M - np.sum(solved_NM**2, axis=0), JITTER * prior_M)
        return np.asarray(cross_MN @ self.weights_N), np.sqrt(variance_M)


def condition(theta_P: Array, dimension_D: Integers, z_ND: Array, y_N: Array) -> Process:
    """The posterior given observations y_N at z_ND.

    Raises:
        Refused: where the covariance of the observations is not positive definite.
    """
    covariance_NN = _kernel(theta_P, dimension_D, z_ND, z_ND)
    factor_NN = _factor(covariance_NN, theta_P)
    weights_N = linalg.cho_solve((factor_NN, True), y_N, check_finite=False)
    return Process(
        theta_P=theta_P, dimension_D=dimension_D, z_ND=z_ND, y_N=y_N, factor_NN=factor_NN,
        weights_N=np.asarray(weights_N),
    )  # fmt: skip


def fitted(dimension_D: Integers, z_ND: Array, y_N: Array, *, near: Sequence[float] | None) -> Array:
    """Hyperparameters theta_P of the highest posterior density, searched from `near` or from the priors' middle."""
    dimensions = int(dimension_D.max()) + 1
    means_P = np.r_[MEANS, np.full(dimensions, np.log(LENGTH * np.sqrt(dimensions)))]
    sds_P = np.r_[SDS, np.full(dimensions, LENGTH_SD)]

    def objective(theta_P: Array) -> tuple[float, Array]:
        value, gradient_P = _surprise(theta_P, dimension_D, z_ND, y_N)
        off_P = (theta_P - means_P) / sds_P
        return value + float(off_P @ off_P) / 2, gradient_P + off_P / sds_P

    start_P = means_P if near is None else np.asarray(near, float)
    found = optimize.minimize(
        objective, start_P, jac=True, method="L-BFGS-B",
        bounds=[(np.log(LOW), np.log(HIGH))] * len(start_P), options={"maxiter": STEPS, "ftol": 1e-5},
    )  # fmt: skip
    return np.asarray(found.x)


def _surprise(theta_P: Array, dimension_D: Integers, z_ND: Array, y_N: Array) -> tuple[float, Array]:
    """−ln p(y | z, theta), and its gradient (Rasmussen & Williams 2006, eq. 5.9)."""
    signal, noise, slope = np.exp(2 * theta_P[: SLOPE + 1])
    s_ND = z_ND / np.exp(theta_P[SLOPE + 1 :])[dimension_D]
    root_NN = np.sqrt(5 * cdist(s_ND, s_ND, "sqeuclidean"))
    decayed_NN = signal * np.exp(-root_NN)
    matern_NN = (1 + root_NN + root_NN**2 / 3) * decayed_NN
    linear_NN = slope * (z_ND @ z_ND.T)
    factor_NN = _factor(1 + linear_NN + matern_NN, theta_P)
    weights_N = linalg.cho_solve((factor_NN, True), y_N, check_finite=False)
    inverse_NN, _ = linalg.lapack.dpotri(factor_NN, lower=1)
    inverse_NN = np.tril(inverse_NN) + np.tril(inverse_NN, -1).T
    value = y_N @ weights_N / 2 + np.sum(np.log(np.diag(factor_NN))) + len(y_N) / 2 * np.log(2 * np.pi)
    pull_NN = inverse_NN - np.outer(weights_N, weights_N)
    # ∂matern/∂ln length_k = 5/3 (1 + √5 r) exp(−√5 r) signal² Σ_{d in k} (s_d − s′_d)²
    rate_NN = pull_NN * (5 / 3 * (1 + root_NN) * decayed_NN)
    by_column_D = rate_NN.sum(axis=1) @ s_ND**2 - np.sum(s_ND * (rate_NN @ s_ND), axis=0)
    by_dimension_K = np.bincount(dimension_D, by_column_D)
    return float(value), np.r_[
        np.sum(pull_NN * matern_NN), noise * np.trace(pull_NN), np.sum(pull_NN * linear_NN), by_dimension_K
    ]


def _kernel(theta_P: Array, dimension_D: Integers, z_MD: Array, z_ND: Array) -> Array:
    signal, _, slope = np.exp(2 * theta_P[: SLOPE + 1])
    lengths_D = np.exp(theta_P[SLOPE + 1 :])[dimension_D]
    root_MN = np.sqrt(5 * cdist(z_MD / lengths_D, z_ND / lengths_D, "sqeuclidean"))
    return np.asarray(1 + slope * (z_MD @ z_ND.T) + signal * (1 + root_MN + root_MN**2 / 3) * np.exp(-root_MN))


def _factor(covariance_NN: Array, theta_P: Array) -> Array:
    diagonal_N = np.diag(covariance_NN)
    added = np.exp(2 * theta_P[NOISE]) + JITTER * diagonal_N.mean()
    raised_NN = covariance_NN + added * np.eye(len(covariance_NN))
    try:
        return np.asarray(linalg.cholesky(raised_NN, lower=True))
    except (linalg.LinAlgError, ValueError):  # the latter where it is not finite
        raise Refused(
            f"the surrogate of {len(diagonal_N)} observations cannot be fitted, their covariance is not positive "
            "definite: check the scales of the parameters, which are units of distance here"
        ) from None
