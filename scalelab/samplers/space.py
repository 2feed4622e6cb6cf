"""The space a sampler searches: Optuna's distributions as dimensions in a row."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from scalelab.errors import unknown
from scalelab.samplers.dimension import Dimension, dimension_of

Array = NDArray[np.float64]
SAME = 1e-6  # of a scale: points that lie no farther apart are one setting


@dataclass(frozen=True, kw_only=True)
class Space:
    """Dimensions in order; a point is a row of D columns, one a number and one for each of choices without an order."""

    dimensions: tuple[Dimension, ...]

    @classmethod
    def of(
        cls,
        distributions: Mapping[str, BaseDistribution],
        *,
        centres: Mapping[str, Any] | None = None,
        scales: Mapping[str, float] | None = None,
        kinds: Mapping[str, str] | None = None,
    ) -> "Space":
        """The space of Optuna's distributions.

        Args:
            distributions: of every parameter, by name.
            centres: where the search starts, values of the parameters; the middle of the bounds, or the first of
                choices that have no order, where left out.
            scales: the radius of a search, in transformed units (natural logs, log-odds, or the parameter's own); a
                factor of 2 in log and log-odds where left out, a sixth of the width where that is less or linear.
            kinds: "log", "linear" or "logit" where it is not what the distribution says. Of three or more numbers to
                choose from, "log" or "linear" by their sign, with steps to the next; "categorical" if they have no
                order.

        Raises:
            Refused: on names that are no parameter, bounds that are none or that the kind cannot carry, and a centre
                outside its bounds.
        """
        for what, given in {"centres": centres, "scales": scales, "kinds": kinds}.items():
            for name in given or {}:
                if name not in distributions:
                    raise unknown(f"parameter in {what}", name, distributions)
        return cls(
            dimensions=tuple(
                dimension_of(name, distribution, centres or {}, scales or {}, kinds or {})
                for name, distribution in distributions.items()
            )
        )

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The columns of each dimension."""
        ends = np.cumsum([0, *(dimension.width for dimension in self.dimensions)]).tolist()
        return tuple(slice(start, end) for start, end in itertools.pairwise(ends))

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest of each column, in transformed units; may be infinite."""
        pairs_D2 = np.array([d.bounds for d in self.dimensions for _ in range(d.width)]).reshape(-1, 2)
        return pairs_D2[:, 0], pairs_D2[:, 1]

    @cached_property
    def centre_D(self) -> Array:
        centre_1D = self.encode([{dimension.name: dimension.centre for dimension in self.dimensions}])
        return np.asarray(centre_1D[0])

    @cached_property
    def scale_D(self) -> Array:
        return np.array([dimension.scale for dimension in self.dimensions for _ in range(dimension.width)])

    def encode(self, params: Sequence[Mapping[str, Any]]) -> Array:
        """Parameters as points x_ND in transformed units. What lies outside the bounds is left there.

        >>> from optuna.distributions import CategoricalDistribution, FloatDistribution
        >>> space = Space.of({"lr": FloatDistribution(1e-4, 1e-2, log=True), "opt": CategoricalDistribution("ab")})
        >>> space.encode([{"lr": 1e-3, "opt": "b"}]).round(3).tolist()
        [[-6.908, 0.0, 1.0]]
        """
        if not self.dimensions:
            return np.empty((len(params), 0))
        return np.hstack([d.columns([row[d.name] for row in params]) for d in self.dimensions])

    def keys(self, x_ND: Array) -> Array:
        """Rows that are equal where the points are one setting, however often they were encoded and decoded."""
        return np.asarray(np.round((x_ND - self.centre_D) / (self.scale_D * SAME)) + 0.0)  # no −0

    def decode(self, x_D: Array) -> dict[str, Any]:
        """The parameters nearest to one point: within the bounds, on the steps, of Python's own types."""
        return {d.name: d.value(x_D[at]) for d, at in zip(self.dimensions, self.slices, strict=True)}

    def rounded(self, x_ND: Array) -> Array:
        """The points that `decode` would make of these."""
        if not self.dimensions:
            return x_ND
        return np.hstack([d.rounded(x_ND[:, at]) for d, at in zip(self.dimensions, self.slices, strict=True)])
