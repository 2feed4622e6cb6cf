"""Delta-method uncertainty: the sandwich covariance of an M-estimate, with whole clusters as the unit.

    V = H⁻¹ (Σ_c g_c g_cᵀ) H⁻¹ · C/(C−P),   H = Σ ψ'(r) ∇f ∇fᵀ,   g_c = Σ_{i in c} ψ(r_i) ∇f_i

(Huber 1967; Liang & Zeger 1986, doi:10.1093/biomet/73.1.13). Checkpoints of a run, or runs of a cell, err together;
with clusters of one run each V is the usual robust covariance. Where δ is far below the residuals ψ' is a spike, and it
is taken over a window as wide as the residuals' own spread, as for the density in least absolute deviations (Powell
1991).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scalelab.laws.law import Array
from scalelab.laws.solve.objective import NORMAL_MAD
from scalelab.laws.solve.problem import Problem

ILL = 1e8  # condition from which the sandwich's meat in the flattest direction is mostly rounding errors
SMALLEST = 1e-120  # curvature of a coordinate that nothing depends on, so that its inverse can still be squared
FLAT = 1e-10  # curvature, relative to a coordinate's own scale, below which a direction is undetermined


@dataclass(frozen=True, kw_only=True, eq=False)
class Covariance:
    """`matrix_PP` of the fitted coordinates; `independent_PP` the same were errors independent and alike;
    `per_rho` turns a rise of the objective into a χ² of one degree of freedom; `condition` is that of the correlation
    matrix, `flat` whether some direction has no curvature at all."""

    matrix_PP: Array
    independent_PP: Array
    per_rho: float
    condition: float
    flat: bool

    @property
    def sd_P(self) -> Array:
        """Standard deviations of the coordinates."""
        return np.sqrt(np.maximum(np.diag(self.matrix_PP), 0.0))

    def design_effect_P(self) -> Array:
        """By how much dependent or unequal errors inflate each coordinate's variance; 1 is neither.

        Along a direction that the runs hardly determine it cannot be told, and is not taken to be less than 1.
        """
        own = np.maximum(np.diag(self.independent_PP), 1e-300)
        least = 1.0 if self.flat or self.condition > ILL else 0.05
        return np.asarray(np.maximum(np.diag(self.matrix_PP) / own, least))


def covariance(problem: Problem, theta_P: Array, cluster_N: npt.NDArray[np.intp]) -> Covariance:
    """The covariance at an optimum; `cluster_N` are cluster numbers 0..C−1."""
    residual_RN, slope_RNP = problem.residuals(theta_P[None])
    r_N, slope_NP = residual_RN[0], slope_RNP[0]
    n, p = slope_NP.shape
    psi_N = problem.objective.psi(r_N)
    bend_N = _curvature(problem, r_N)
    hessian_PP = slope_NP.T @ (slope_NP * bend_N[:, None])
    scale_P = np.sqrt(np.maximum(np.diag(hessian_PP), SMALLEST))
    correlation_PP = hessian_PP / np.outer(scale_P, scale_P)
    eigenvalue_P, vector_PP = np.linalg.eigh(correlation_PP)
    flat = bool(eigenvalue_P[0] < FLAT)
    inverse_PP = (vector_PP / np.maximum(eigenvalue_P, FLAT)) @ vector_PP.T / np.outer(scale_P, scale_P)
    score_NP = psi_N[:, None] * slope_NP
    clusters = int(cluster_N.max()) + 1
    score_CP = np.zeros((clusters, p))
    np.add.at(score_CP, cluster_N, score_NP)
    clustered = inverse_PP @ (score_CP.T @ score_CP) @ inverse_PP * (clusters / max(clusters - p, 1))
    per_rho = 2 * float(bend_N.mean()) * max(n - p, 1) / max(float((psi_N**2).sum()), 1e-300)
    return Covariance(
        matrix_PP=clustered,
        independent_PP=inverse_PP * 2 / per_rho,
        per_rho=per_rho,
        condition=float(eigenvalue_P[-1] / max(eigenvalue_P[0], 1e-300)),
        flat=flat,
    )


def _curvature(problem: Problem, residual_N: Array) -> Array:
    """ψ' of every observation, over a window no narrower than half the residuals' spread."""
    delta = problem.objective.delta
    if not np.isfinite(delta):
        return np.ones(len(residual_N))
    size_N = np.abs(residual_N)
    window = max(delta, 0.5 * NORMAL_MAD * float(np.median(size_N)))
    return np.asarray(delta / window * (size_N <= window))
