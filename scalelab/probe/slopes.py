"""Lines through log2 of a quantity against log2 of a size: slopes over seeds, and extrapolation with an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95


def logs(sizes: np.ndarray) -> np.ndarray:
    """log2, what is zero taken for the smallest number there is."""
    return np.asarray(np.log2(np.maximum(sizes, np.finfo(float).tiny)))


def slope(values: Sequence[float], sizes: np.ndarray) -> tuple[float, float | None]:
    """Slope of log2 size [scale, seed] on log2 scale for each seed: the mean over seeds and its standard error."""
    x = np.log2(np.asarray(values, dtype=float))
    slopes = (x - x.mean()) @ logs(sizes) / np.square(x - x.mean()).sum()
    error = float(slopes.std(ddof=1)) / math.sqrt(len(slopes)) if len(slopes) > 1 else None
    return float(slopes.mean()), error


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, which is None where there are no degrees of freedom to know it from."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How a quantity grows with a size: its exponent, and what the line says at a target (None without one).

    The intervals are Student's t with as many degrees of freedom as there are sizes above two, from the scatter of the
    sizes' means around the line; the target's is that of one more size there. Neither knows whether the line bends.
    """

    exponent: Estimate
    at_target: Estimate | None


def trend(values: Sequence[float], sizes: np.ndarray, target: float | None) -> Trend:
    """The least-squares line through the means over seeds of log2 size [scale, seed].

    >>> print(round(trend((1, 2, 4), np.array([[3.0], [6.0], [12.0]]), 16).at_target.value, 6))
    48.0
    """
    x, y = np.log2(np.asarray(values, dtype=float)), logs(sizes).mean(axis=1)
    centre, spread, freedom = float(x.mean()), float(np.square(x - x.mean()).sum()), len(x) - 2
    exponent = float((x - centre) @ y / spread)
    scatter = math.inf
    if freedom > 0:
        residual = y - y.mean() - exponent * (x - centre)
        scatter = float(student.ppf(0.5 + CONFIDENCE / 2, freedom)) * math.sqrt(float(residual @ residual) / freedom)
    half = scatter / math.sqrt(spread)
    known = math.isfinite(half)
    found = Estimate(value=exponent, low=exponent - half if known else None, high=exponent + half if known else None)
    if target is None:
        return Trend(exponent=found, at_target=None)
    away = math.log2(target) - centre
    predicted = float(y.mean()) + exponent * away
    half = scatter * math.sqrt(1 + 1 / len(x) + away**2 / spread)
    low, high = (_raised(predicted + sign * half) if known else None for sign in (-1, 1))
    return Trend(exponent=found, at_target=Estimate(value=_raised(predicted), low=low, high=high))


def _raised(log2: float) -> float:
    """2^log2, infinite where that is more than a float can hold."""
    return 2.0**log2 if log2 < 1024 else math.inf
