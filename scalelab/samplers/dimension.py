"""One parameter of a search, in the units in which a distance means something.

It is searched in its transformed units: natural logs ("log"), log-odds ("logit") or its own ("linear"). An integer, a
stepped value or a choice among numbers is continuous inside and rounded on the way out; choices without an order
("categorical") are a column each.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
PART = 1 / 6  # of the width between the bounds, where that is less or there is no logarithm: assumed
LEAST_NUMBERS = 3  # to choose from, that there is an optimum among them, and not only the better of two


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One parameter: `centre` is a value of the parameter, `scale` the radius of a search in transformed units.

    `values` are those of a choice, from the lowest where they are numbers; none of a range.
    """

    name: str
    distribution: BaseDistribution
    kind: Kind
    centre: Any
    scale: float
    values: tuple[Any, ...] = ()

    @property
    def is_categorical(self) -> bool:
        """Whether its values have no order."""
        return self.kind == "categorical"

    @property
    def width(self) -> int:
        """How many columns it takes."""
        return len(self.values) if self.is_categorical else 1

    @property
    def bounds(self) -> tuple[float, float]:
        """Of its columns, in transformed units."""
        if self.is_categorical:
            return 0.0, 1.0
        low, high = _warp(self.kind, np.array(_ends(self.distribution, self.values), float))
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
        if self.is_categorical:
            places_N = [int(self.distribution.to_internal_repr(value)) for value in values]
            return np.asarray(np.eye(self.width)[places_N])
        return _warp(self.kind, np.array(values, float))[:, None]

    def value(self, columns: Array) -> Any:
        """The parameter's value nearest to one row of its columns; always within the distribution."""
        if self.values:
            return self.values[int(np.argmax(columns) if self.is_categorical else self._places(columns)[0])]
        nearest = self._nearest(columns)[0]
        return int(nearest) if isinstance(self.distribution, IntDistribution) else float(nearest)

    def rounded(self, columns_NW: Array) -> Array:
        """The columns of the nearest values that the parameter can take."""
        if self.is_categorical:
            return np.asarray(np.eye(self.width)[np.argmax(columns_NW, axis=1)])
        if self.values:
            return self.columns(self.values)[self._places(columns_NW[:, 0])]
        return _warp(self.kind, self._nearest(columns_NW))

    def _places(self, column_N: Array) -> NDArray[np.intp]:
        """Of the values that are nearest in transformed units."""
        return np.asarray(np.argmin(np.abs(column_N[:, None] - self.columns(self.values)[:, 0]), axis=1))

    def _nearest(self, columns: Array) -> Array:
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        low, high, step = self.distribution.low, self.distribution.high, self.distribution.step
        values = np.clip(_unwarp(self.kind, np.clip(columns, *self.bounds)), low, high)
        if step is None:
            return values
        return np.asarray(np.clip(low + np.round((values - low) / step) * step, low, high))


def dimension_of(
    name: str,
    distribution: BaseDistribution,
    centres: Mapping[str, Any],
    scales: Mapping[str, float],
    kinds: Mapping[str, str],
) -> Dimension:
    """The dimension of a distribution, with what is given of its name; see `Space.of`, also for what is refused."""
    if not isinstance(distribution, FloatDistribution | IntDistribution | CategoricalDistribution):
        raise Refused(f"{name!r} has a {type(distribution).__name__}: accepted are Optuna's float, int and categorical")
    values: tuple[float, ...] = ()
    if isinstance(distribution, CategoricalDistribution):
        values = numbers(distribution)
        if len(values) < LEAST_NUMBERS or kinds.get(name) == "categorical":
            return _categorical(name, distribution, centres, scales, kinds)
        if name in centres and centres[name] not in values:
            raise unknown(f"centre of {name!r}", centres[name], map(str, values))
    kind = _kind(name, distribution, values, kinds)
    ends = _ends(distribution, values)
    low, high = _warp(kind, np.array(ends, float)).tolist()
    with np.errstate(over="ignore"):
        width = float(np.subtract(high, low))
    centre = centres.get(name, _unwarp(kind, np.array(low / 2 + high / 2)).item() if math.isfinite(width) else None)
    if not _is_number(centre) or not ends[0] <= centre <= ends[1]:
        if name not in centres:
            raise Refused(f"{name!r} has no middle between {ends[0]} and {ends[1]}: give its centre")
        raise Refused(f"centre of {name!r} is {centre!r}: accepted is a number from {ends[0]} to {ends[1]}")
    scale = scales.get(name, _usual_scale(kind, width, distribution, values))
    if not _is_number(scale) or not 0 < scale < math.inf:
        if name not in scales:
            raise Refused(f"{name!r} has no width between {ends[0]} and {ends[1]}: give its scale")
        raise Refused(f"scale of {name!r} is {scale!r}: accepted is a positive number, in natural logs where it is log")
    found = Dimension(
        name=name, distribution=distribution, kind=kind, centre=centre, scale=float(scale), values=values
    )  # fmt: skip
    return replace(found, centre=found.value(found.columns([centre])[0])) if values else found


def numbers(distribution: CategoricalDistribution) -> tuple[float, ...]:
    """The choices from the lowest where all are finite numbers, else none."""
    found = [choice for choice in distribution.choices if _is_number(choice) and math.isfinite(choice)]  # type: ignore[arg-type]
    return tuple(sorted(found)) if len(found) == len(distribution.choices) else ()  # type: ignore[arg-type]


def _categorical(
    name: str,
    distribution: CategoricalDistribution,
    centres: Mapping[str, Any],
    scales: Mapping[str, float],
    kinds: Mapping[str, str],
) -> Dimension:
    if kinds.get(name, "categorical") != "categorical" or name in scales:
        raise Refused(f"{name!r} is categorical: it has neither a kind nor a scale, drop its entry")
    centre = centres.get(name, distribution.choices[0])
    if centre not in distribution.choices:
        raise unknown(f"centre of {name!r}", centre, distribution.choices)
    return Dimension(
        name=name, distribution=distribution, kind="categorical", centre=centre, scale=1.0, values=distribution.choices
    )  # fmt: skip


def _kind(name: str, distribution: BaseDistribution, values: Sequence[float], kinds: Mapping[str, str]) -> Kind:
    low, high = _ends(distribution, values)
    kind = kinds.get(name, "log" if (low > 0 if values else distribution.log) else "linear")  # type: ignore[attr-defined]
    if kind not in KINDS:
        raise unknown(f"kind of {name!r}", kind, KINDS)
    if not low <= high:  # a bound that is no number, too
        raise Refused(f"bounds of {name!r} are {low} and {high}: accepted are two numbers, the lower first")
    if kind == "log" and low <= 0:
        raise Refused(f"{name!r} is log from {low}: accepted is a lower bound above 0; try a small one, or kind linear")
    if kind == "logit" and (low <= 0 or high >= 1):
        raise Refused(f"{name!r} is logit from {low} to {high}: accepted are bounds strictly between 0 and 1")
    return kind  # type: ignore[return-value]  # one of KINDS


def _ends(distribution: BaseDistribution, values: Sequence[float]) -> tuple[float, float]:
    if values:
        return values[0], values[-1]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low, distribution.high


def _usual_scale(kind: Kind, width: float, distribution: BaseDistribution, values: Sequence[float]) -> float:
    """A factor of two, or a part of the width; a step reaches the next value. That of a constant is never used."""
    usual = width * PART if kind == "linear" else min(width * PART, RADIUS)
    if values:
        return max(usual, width / (len(values) - 1))
    step: float | None = distribution.step  # type: ignore[attr-defined]
    return (max(usual, step or 0.0) if kind == "linear" else usual) or 1.0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _warp(kind: Kind, values: Array) -> Array:
    return np.log(values) if kind == "log" else np.asarray(logit(values)) if kind == "logit" else values


def _unwarp(kind: Kind, values: Array) -> Array:
    return np.exp(values) if kind == "log" else np.asarray(expit(values)) if kind == "logit" else values
