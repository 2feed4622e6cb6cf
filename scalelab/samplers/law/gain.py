"""Which run says most about the target.

Near its optimum the loss at the target is a bowl of curvature H, and the recommendation's expected regret is
½ tr(H⁻¹ Σ), Σ the covariance of the slopes there. A run at x with noise σ takes q qᵀ/(v + σ²) from Σ, q the covariance
of its loss with the slopes and v its own variance: its gain is ½ qᵀ H⁻¹ q/(v + σ²), the I-optimal choice of the next
observation (Cohn et al., arXiv:cs/9603104). Where another choice outside the law may be the better one, a run is also
worth what it says about that difference (the knowledge gradient of two alternatives, Frazier et al. 2008,
doi:10.1137/070693424).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from scalelab.laws.law import Array
from scalelab.samplers.law.mean import Points
from scalelab.samplers.law.posterior import Posterior
from scalelab.samplers.law.target import Outlook, Unknown

SAMPLES = 2000  # of the slopes, for the regret's upper end


@dataclass(frozen=True, kw_only=True)
class Regret:
    """Expected regret of the recommendation and the value that it stays below with a chance of 95 %, as shares of the
    loss's size."""

    mean: float
    high: float


def regret(posterior: Posterior, unknown: Unknown, rng: np.random.Generator) -> Regret:
    """The regret of the first action."""
    at = posterior.law_at(unknown.points)
    covariance_KK = posterior.covariance(at, at)
    slopes_AA = unknown.slope_AN @ covariance_KK @ unknown.slope_AN.T
    value_A, vector_AA = np.linalg.eigh(slopes_AA)
    slope_SA = rng.standard_normal((SAMPLES, len(value_A))) @ (vector_AA * np.sqrt(np.maximum(value_A, 0.0))).T
    lost_S = 0.5 * np.einsum("sa,ab,sb->s", slope_SA, unknown.inverse_AA, slope_SA)
    k = len(unknown.behind_K)
    if k:
        variance_K = np.diag(covariance_KK)[-k:] + covariance_KK[-k - 1, -k - 1] - 2 * covariance_KK[-k - 1, -k:]
        sd_K = np.sqrt(np.maximum(variance_K, 0.0))
        lost_S = lost_S + np.maximum(-(unknown.behind_K + sd_K * rng.standard_normal((SAMPLES, k))), 0.0).max(axis=1)
    return Regret(mean=float(lost_S.mean()), high=float(np.percentile(lost_S, 95)))


def gains(outlook: Outlook, posterior: Posterior, unknown: Unknown, candidates: Points) -> Array:
    """By how much a run at each candidate would lower the expected regret (n,); one that diverges says nothing.

    `posterior` knows of the runs that have not ended, and `outlook` does not.
    """
    at, target = posterior.law_at(candidates), posterior.law_at(unknown.points)
    cross_NK = posterior.covariance(at, target)
    own_N = posterior.variance(at) + posterior.noise**2
    slope_NA = cross_NK @ unknown.slope_AN.T
    gain_N = 0.5 * np.einsum("na,ab,nb->n", slope_NA, unknown.inverse_AA, slope_NA) / own_N
    k = len(unknown.behind_K)
    if k:
        sd_NK = np.abs(cross_NK[:, -k:] - cross_NK[:, -k - 1, None]) / np.sqrt(own_N)[:, None]
        gain_N = gain_N + _worth(unknown.behind_K, sd_NK).sum(axis=1)
    return np.asarray(gain_N * (1 - outlook.edge.chance(candidates)))


def _worth(behind_K: Array, sd_NK: Array) -> Array:
    """E max(0, −Δ) for differences Δ of these means and standard deviations."""
    sd_NK = np.maximum(sd_NK, 1e-12)
    return np.asarray(sd_NK * norm.pdf(behind_K / sd_NK) - behind_K * norm.cdf(-behind_K / sd_NK))
