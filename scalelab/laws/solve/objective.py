"""What a fit minimises: a sum over runs of ρ(residual), robust or not, in log loss or in loss.

Huber's ρ is quadratic up to δ and linear beyond. The field's δ of 1e-3 in log loss (arXiv:2203.15556) lies far below
the residuals of real runs, which makes it least absolute deviations with a rounded corner; a δ far above them is least
squares. `scaled` chooses δ from the residuals, at 1.345 standard deviations, where Huber's estimate keeps 95 % of the
efficiency of least squares on normal errors (Huber 1964, doi:10.1214/aoms/1177703732).
"""

from dataclasses import dataclass, replace

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.law import Array

EFFICIENT = 1.345  # δ over standard deviation: 95 % efficiency on normal errors
NORMAL_MAD = 1.4826  # standard deviation over median absolute deviation, normal errors
SMALLEST_DELTA = 1e-9  # an exact fit has residuals of rounding errors


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Σ ρ(residual): `delta` is Huber's threshold, inf for least squares; residuals are log predicted − log observed
    with space "log", predicted − observed with space "linear"."""

    delta: float = np.inf
    space: str = "log"

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise Refused(f"delta={self.delta!r}: accepted is a number > 0; inf is least squares")
        if self.space not in ("log", "linear"):
            raise Refused(f"space={self.space!r}: accepted are log, linear")

    def rho(self, residual: Array) -> Array:
        """ρ, shape as the residuals."""
        size = np.abs(residual)
        inner = np.minimum(size, self.delta)
        with np.errstate(over="ignore"):  # a start far off has an infinite ρ, and loses
            return np.asarray(inner * (size - 0.5 * inner) if np.isfinite(self.delta) else 0.5 * size**2)

    def psi(self, residual: Array) -> Array:
        """The derivative of ρ."""
        return np.clip(residual, -self.delta, self.delta)

    def inside(self, residual: Array) -> Array:
        """The second derivative of ρ: 1 within the threshold, 0 beyond."""
        return np.asarray(np.abs(residual) <= self.delta, dtype=float)

    def reweighted(self, residual: Array) -> Array:
        """ψ(r)/r, the weights of iteratively reweighted least squares."""
        return np.asarray(self.delta / np.maximum(np.abs(residual), self.delta) if np.isfinite(self.delta) else 1.0)

    def scaled(self, residual_N: Array, *, parameters: int = 0) -> "Objective":
        """This objective with δ at 1.345 standard deviations of the errors, by the median size of residuals to which so
        many parameters were fitted."""
        spread = NORMAL_MAD * float(np.median(np.abs(residual_N)))
        spread *= np.sqrt(len(residual_N) / max(len(residual_N) - parameters, 1))
        return replace(self, delta=max(EFFICIENT * spread, SMALLEST_DELTA))


LEAST_SQUARES = Objective()
LEAST_ABSOLUTE = Objective(delta=SMALLEST_DELTA)
CHINCHILLA = Objective(delta=1e-3)
