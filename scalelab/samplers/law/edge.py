"""Where runs diverge: a logistic regression on the distance from the law's optimum and on cost, with priors.

It is told by both kinds of runs, those that ended and those that did not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from scalelab.laws.law import Array
from scalelab.samplers.law.mean import Law, Points

INTERCEPT, INTERCEPT_SD = -10.0, 2.0  # of a run at the optimum, ln odds: assumed
SLOPE_SD = 1.0  # a hyperparameter, an e-fold
LR_SLOPE, LR_SLOPE_SD = 3.0, 1.0  # the learning rate's: odds of one at e³ times the optimum


@dataclass(frozen=True, kw_only=True, eq=False)
class Edge:
    """ln odds of a divergence: weights of (1, distances from the optimum, cost), and their covariance."""

    law: Law
    theta_P: Array
    weight_F: Array
    covariance_FF: Array

    def chance(self, points: Points) -> Array:
        """Probability of a divergence (n,), the weights' uncertainty averaged over (MacKay 1992, probit's way)."""
        feature_NF = _features(self.law, self.theta_P, points)
        variance_N = np.einsum("nf,fg,ng->n", feature_NF, self.covariance_FF, feature_NF)
        return np.asarray(expit(feature_NF @ self.weight_F / np.sqrt(1 + np.pi / 8 * variance_N)))


def _features(law: Law, theta_P: Array, points: Points) -> Array:
    off_NH = np.clip(points.hyper_NH - law.optimum(theta_P[None], points)[0], -6, 6)
    return np.column_stack([np.ones(len(points)), off_NH, 0.3 * points.cost_N])


def fit(law: Law, theta_P: Array, points: Points, diverged_N: Array, *, rates: Sequence[int]) -> Edge:
    """The edge behind runs that ended and runs that diverged.

    Args:
        law: the law, at `theta_P`.
        theta_P: its parameters.
        points: of all runs.
        diverged_N: 1 where the run diverged.
        rates: the places of the learning rates among the hyperparameters.
    """
    feature_NF = _features(law, theta_P, points)
    mean_F, sd_F = np.zeros(feature_NF.shape[1]), np.full(feature_NF.shape[1], SLOPE_SD)
    mean_F[0], sd_F[0] = INTERCEPT, INTERCEPT_SD
    for rate in rates:
        mean_F[1 + rate], sd_F[1 + rate] = LR_SLOPE, LR_SLOPE_SD
    weight_F = mean_F.copy()
    for _ in range(25):  # Newton: the posterior is log-concave
        p_N = expit(feature_NF @ weight_F)
        gradient_F = feature_NF.T @ (p_N - diverged_N) + (weight_F - mean_F) / sd_F**2
        hessian_FF = (feature_NF.T * np.maximum(p_N * (1 - p_N), 1e-6)) @ feature_NF + np.diag(sd_F**-2.0)
        step_F = np.linalg.solve(hessian_FF, gradient_F)
        weight_F = weight_F - step_F / max(1.0, float(np.abs(step_F).max()))
        if np.abs(step_F).max() < 1e-6:
            break
    return Edge(law=law, theta_P=theta_P, weight_F=weight_F, covariance_FF=np.asarray(np.linalg.inv(hessian_FF)))
