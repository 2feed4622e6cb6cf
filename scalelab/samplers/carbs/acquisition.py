"""What a candidate is worth: the expected improvement over a front, in logs so that small worths still compare."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr

Array = NDArray[np.float64]


def log_expected_improvement(mean_M: Array, sd_M: Array, best_M: Array) -> Array:
    """ln E max(best − f, 0) of f ~ N(mean, sd²), without underflow (arXiv:2310.20708 eq. 9)."""
    u_M = (best_M - mean_M) / sd_M
    near_M = np.maximum(u_M, -1.0)
    density_M = np.exp(-(near_M**2) / 2) / np.sqrt(2 * np.pi)
    far_M = np.minimum(u_M, -1.0)
    # φ(u) + u Φ(u) = φ(u) (1 + u √(π/2) erfcx(−u/√2)); the bracket tends to 1/u² as u → −∞
    bracket_M = 1 + far_M * np.sqrt(np.pi / 2) * erfcx(-far_M / np.sqrt(2))
    bracket_M = np.where(far_M < -1e4, far_M**-2.0, np.maximum(bracket_M, 1e-300))
    inside_M = np.where(
        u_M > -1,
        np.log(density_M + near_M * np.exp(log_ndtr(near_M))),
        -(far_M**2) / 2 - np.log(2 * np.pi) / 2 + np.log(bracket_M),
    )
    return np.asarray(np.log(sd_M) + inside_M)
