"""One side steeper than the other: the shape of loss around the best learning rate, batch or weight decay.

    V(x) = κ (e^{sx} − 1 − sx)/s²,   x = ln(setting/optimum)

(the linex loss of Varian 1975). Near the optimum it is the parabola κx²/2 whatever s; far above it rises like a power
of the setting, as training does that is too noisy, and far below only like its logarithm, as training does that is
slow. One number s says how much more costly too high is than too low; 0 is symmetric. A second exponent for the low
side was tried (a sum of two powers) and predicted held-out cells of published sweeps worse.
"""

import numpy as np

from scalelab.laws.law import Array

LARGEST = 30.0  # of the exponent: e^30 is a loss that no run reports


def valley(x: Array, skew: Array | float) -> tuple[Array, Array, Array]:
    """V/κ and its derivatives by x and by s."""
    u = np.clip(skew * x, -40.0, LARGEST)
    near = np.abs(u) < 1e-3  # where the formula would subtract equal numbers, its series
    v = np.where(near, 1.0, u)
    e = np.expm1(v)
    height = np.where(near, 0.5 + u / 6 + u**2 / 24, (e - v) / v**2)
    slope = np.where(near, 1 + u / 2 + u**2 / 6, e / v)
    by_skew = np.where(near, 1 / 6 + u / 12 + u**2 / 40, ((v - 2) * (e + 1) + v + 2) / v**3)
    return x**2 * height, x * slope, x**3 * by_skew


def bend(x: Array, log_width: Array | float) -> tuple[Array, Array, Array]:
    """How the best learning rate leaves its power law in the batch, x = ln(batch/best batch), and derivatives by x and
    by ln w: 2 ln cosh(wx)/w², which is x² near the best batch and turns into straight lines beyond 1/w.
    """
    w = np.exp(np.clip(log_width, -4.0, 4.0))
    log_cosh = np.logaddexp(w * x, -w * x) - np.log(2)
    slope = np.tanh(w * x)
    return 2 * log_cosh / w**2, 2 * slope / w, 2 * (x * slope / w - 2 * log_cosh / w**2)
