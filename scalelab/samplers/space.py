"""The space a sampler searches: Optuna's distributions, in the units in which a distance means something.

A dimension is searched in its transformed units: natural logs ("log"), log-odds ("logit") or its own ("linear"). An
integer or a stepped value is continuous inside and rounded on the way out; a categorical is a column for each choice.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import expit, logit

from scalelab.errors import Refused, unknown

Array = NDArray[np.float64]
Kind = Literal["log", "linear", "logit", "categorical"]
KINDS = ("log", "linear", "logit")  # of a number
RADIUS = math.log(2)  # .3 of a decade, the search radius of arXiv:2306.08055 in its log spaces
SAME = 1e-6  # of a scale: points that lie no farther apart are one setting
PART = 1 / 6  # of the width between the bounds, where that is less or there is no logarithm: assumed


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One parameter: `centre` is a value of the parameter, `scale` the radius of a search in transformed units."""

    name: str
    distribution: BaseDistribution
    kind: Kind
    centre: Any
    scale: float

    @property
    def width(self) -> int:
        """How many columns it takes."""
        return len(self.distribution.choices) if isinstance(self.distribution, CategoricalDistribution) else 1

    @property
    def bounds(self) -> tuple[float, float]:
        """Of its columns, in transformed units."""
        if not isinstance(self.distribution, FloatDistribution | IntDistribution):
            return 0.0, 1.0
        low, high = _warp(self.kind, np.array([self.distribution.low, self.distribution.high], float))
        return float(low), float(high)

    @property
    def start(self) -> Any:
        """The centre, or the value nearest to it that the parameter can take."""
        internal = self.distribution.to_internal_repr(self.centre)
        if self.distribution._contains(internal):
            return self.distribution.to_external_repr(internal)
        return self.value(self.columns([self.centre])[0])

    def columns(self, values: Sequence[Any]) -> Array:
        """Values of the parameter as columns, (len(values), width)."""
        if isinstance(self.distribution, CategoricalDistribution):
            places_N = [int(self.distribution.to_internal_repr(value)) for value in values]
            return np.asarray(np.eye(self.width)[places_N])
        return _warp(self.kind, np.array(values, float))[:, None]

    def value(self, columns: Array) -> Any:
        """The parameter's value nearest to one row of its columns; always within the distribution."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices[int(np.argmax(columns))]
        nearest = self._nearest(columns)[0]
        return int(nearest) if isinstance(self.distribution, IntDistribution) else float(nearest)

    def rounded(self, columns_NW: Array) -> Array:
        """The columns of the nearest values that the parameter can take."""
        if isinstance(self.distribution, CategoricalDistribution):
            return np.asarray(np.eye(self.width)[np.argmax(columns_NW, axis=1)])
        return _warp(self.kind, self._nearest(columns_NW))

    def _nearest(self, columns: Array) -> Array:
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        low, high, step = self.distribution.low, self.distribution.high, self.distribution.step
        values = np.clip(_unwarp(self.kind, np.clip(columns, *self.bounds)), low, high)
        if step is None:
            return values
        return np.asarray(np.clip(low + np.round((values - low) / step) * step, low, high))


@dataclass(frozen=True, kw_only=True)
class Space:
    """Dimensions in order; a point is a row of D columns, one a number and one for each choice of a categorical."""

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
            centres: where the search starts, values of the parameters; the middle of the bounds, or the first choice,
                where left out.
            scales: the radius of a search, in transformed units (natural logs, log-odds, or the parameter's own); a
                factor of 2 in log and log-odds where left out, a sixth of the width where that is less or linear.
            kinds: "log", "linear" or "logit" where it is not what the distribution says.

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
                _dimension(name, distribution, centres or {}, scales or {}, kinds or {})
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


def _dimension(
    name: str,
    distribution: BaseDistribution,
    centres: Mapping[str, Any],
    scales: Mapping[str, float],
    kinds: Mapping[str, str],
) -> Dimension:
    if isinstance(distribution, CategoricalDistribution):
        if kinds.get(name, "categorical") != "categorical" or name in scales:
            raise Refused(f"{name!r} is categorical: it has neither a kind nor a scale, drop its entry")
        centre = centres.get(name, distribution.choices[0])
        if centre not in distribution.choices:
            raise unknown(f"centre of {name!r}", centre, distribution.choices)
        return Dimension(name=name, distribution=distribution, kind="categorical", centre=centre, scale=1.0)
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise Refused(f"{name!r} has a {type(distribution).__name__}: accepted are Optuna's float, int and categorical")
    kind = _kind(name, distribution, kinds)
    low, high = _warp(kind, np.array([distribution.low, distribution.high], float)).tolist()
    with np.errstate(over="ignore"):
        width = float(np.subtract(high, low))
    centre = centres.get(name, _unwarp(kind, np.array(low / 2 + high / 2)).item() if math.isfinite(width) else None)
    if not _is_number(centre) or not distribution.low <= centre <= distribution.high:
        if name not in centres:
            raise Refused(f"{name!r} has no middle between {distribution.low} and {distribution.high}: give its centre")
        raise Refused(
            f"centre of {name!r} is {centre!r}: accepted is a number from {distribution.low} to {distribution.high}"
        )
    step = distribution.step or 0.0
    usual = max(width * PART, step) if kind == "linear" else min(width * PART, RADIUS)
    scale = scales.get(name, usual or 1.0)  # the scale of a constant is never used
    if not _is_number(scale) or not 0 < scale < math.inf:
        if name not in scales:
            raise Refused(f"{name!r} has no width between {distribution.low} and {distribution.high}: give its scale")
        raise Refused(f"scale of {name!r} is {scale!r}: accepted is a positive number, in natural logs where it is log")
    return Dimension(name=name, distribution=distribution, kind=kind, centre=centre, scale=float(scale))


def _kind(name: str, distribution: FloatDistribution | IntDistribution, kinds: Mapping[str, str]) -> Kind:
    kind = kinds.get(name, "log" if distribution.log else "linear")
    low, high = distribution.low, distribution.high
    if kind not in KINDS:
        raise unknown(f"kind of {name!r}", kind, KINDS)
    if not low <= high:  # a bound that is no number, too
        raise Refused(f"bounds of {name!r} are {low} and {high}: accepted are two numbers, the lower first")
    if kind == "log" and low <= 0:
        raise Refused(f"{name!r} is log from {low}: accepted is a lower bound above 0; try a small one, or kind linear")
    if kind == "logit" and (low <= 0 or high >= 1):
        raise Refused(f"{name!r} is logit from {low} to {high}: accepted are bounds strictly between 0 and 1")
    return kind  # type: ignore[return-value]  # one of KINDS


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _warp(kind: Kind, values: Array) -> Array:
    return np.log(values) if kind == "log" else np.asarray(logit(values)) if kind == "logit" else values


def _unwarp(kind: Kind, values: Array) -> Array:
    return np.exp(values) if kind == "log" else np.asarray(expit(values)) if kind == "logit" else values
