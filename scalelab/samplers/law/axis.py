"""One numeric parameter of a search in the law's units."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from scalelab.errors import Refused

Params = Mapping[str, Any]
LINEAR_WIDTH = 4.0  # what the range of a linear parameter counts for, where e-folds are the unit of the others
LEAST_CHOICES = 3  # numbers among which there is an optimum, and not only the better of two


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """A parameter in natural logs, or on a line of `LINEAR_WIDTH`; `values` where it is a choice among numbers."""

    name: str
    distribution: BaseDistribution
    log: bool
    low: float
    high: float
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, name: str, distribution: BaseDistribution) -> "Axis | None":
        """None where the distribution is not of numbers."""
        if isinstance(distribution, FloatDistribution | IntDistribution):
            return cls(name=name, distribution=distribution, log=distribution.log, low=float(distribution.low),
                       high=float(distribution.high))  # fmt: skip
        numbers = _numbers(distribution)
        if len(numbers) < LEAST_CHOICES:
            return None
        return cls(name=name, distribution=distribution, log=numbers[0] > 0, low=numbers[0], high=numbers[-1],
                   values=numbers)  # fmt: skip

    @classmethod
    def of_scale(cls, name: str, distribution: BaseDistribution) -> "Axis":
        """A scale, which is taken in logs whatever its distribution says.

        Raises:
            Refused: where it is not of positive numbers.
        """
        numbers = _numbers(distribution)
        if isinstance(distribution, FloatDistribution | IntDistribution):
            low, high = float(distribution.low), float(distribution.high)
        elif numbers:
            low, high = numbers[0], numbers[-1]
        else:
            raise Refused(f"{name} sets the scale: accepted are numbers, not {distribution}")
        if low <= 0:
            raise Refused(f"{name} sets the scale and begins at {low:g}: accepted are positive numbers")
        return cls(name=name, distribution=distribution, log=True, low=low, high=high, values=numbers)

    def inward(self, value: float) -> float:
        """A value of the parameter in the law's units."""
        if self.log:
            return math.log(value)
        return LINEAR_WIDTH * (value - self.low) / (self.high - self.low)

    @property
    def range(self) -> tuple[float, float]:
        """The bounds in the law's units."""
        return self.inward(self.low), self.inward(self.high)

    def outward(self, unit: float) -> Any:
        """The value nearest to a number in the law's units that the distribution holds, of Python's own types."""
        if isinstance(self.distribution, CategoricalDistribution):
            nearest = min(self.values, key=lambda value: abs(self.inward(value) - unit))
            return next(choice for choice in self.distribution.choices if choice == nearest)
        value = math.exp(unit) if self.log else self.low + unit * (self.high - self.low) / LINEAR_WIDTH
        if unit <= self.range[0]:
            value = self.low  # which its logarithm's exponential is only nearly
        step = None if self.distribution.log else self.distribution.step  # type: ignore[attr-defined]
        if step is not None:
            value = self.low + round((value - self.low) / step) * step
        value = min(max(value, self.low), self.high)
        return round(value) if isinstance(self.distribution, IntDistribution) else float(value)


def _numbers(distribution: BaseDistribution) -> tuple[float, ...]:
    """The choices in order where they are all numbers, else none."""
    if not isinstance(distribution, CategoricalDistribution):
        return ()
    numbers = [float(c) for c in distribution.choices if isinstance(c, int | float) and not isinstance(c, bool)]
    finite = len(numbers) == len(distribution.choices) and bool(np.isfinite(numbers).all())
    return tuple(sorted(numbers)) if finite else ()
