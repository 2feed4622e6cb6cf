"""One numeric parameter of a search in the law's units."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from scalelab.errors import Refused
from scalelab.samplers.dimension import LEAST_NUMBERS, numbers

Params = Mapping[str, Any]
LINEAR_WIDTH = 4.0  # what the range of a linear parameter counts for, where e-folds are the unit of the others


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
        values = numbers(distribution) if isinstance(distribution, CategoricalDistribution) else ()
        if len(values) < LEAST_NUMBERS:
            return None
        return cls(name=name, distribution=distribution, log=values[0] > 0, low=values[0], high=values[-1],
                   values=values)  # fmt: skip

    @classmethod
    def of_scale(cls, name: str, distribution: BaseDistribution) -> "Axis":
        """A scale, which is taken in logs whatever its distribution says.

        Raises:
            Refused: where it is not of positive numbers.
        """
        values = numbers(distribution) if isinstance(distribution, CategoricalDistribution) else ()
        if isinstance(distribution, FloatDistribution | IntDistribution):
            low, high = float(distribution.low), float(distribution.high)
        elif values:
            low, high = values[0], values[-1]
        else:
            raise Refused(f"{name} sets the scale: accepted are numbers, not {distribution}")
        if low <= 0:
            raise Refused(f"{name} sets the scale and begins at {low:g}: accepted are positive numbers")
        return cls(name=name, distribution=distribution, log=True, low=low, high=high, values=values)

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
