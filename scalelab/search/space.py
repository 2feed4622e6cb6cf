"""Hydra's sweep overrides → a search space: Optuna's distributions, each under the key that it moves.

`lr=tag(log, interval(1e-4, 1e-1))`, `depth=int(interval(2, 8))`, `width=range(32, 160, 32)` (as in Hydra's grids, the
end is not in it), `optimizer=adamw,sgd`. Numbers tagged `log` are a scale and no categories, as in
`width=tag(log, choice(32, 64, 128))`: our samplers see these numbers, others logarithmic bounds, and their proposals go
to the nearest value.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override, Transformer, ValueType
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from scalelab.composing import refusing
from scalelab.errors import Refused

FOLDERS = ("out", "study")  # a search is kept in one of them
MOST = 8  # values that are shown
Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What is searched: `key` as an override is written, `values` where it has a list of them.

    `is_scale` says that these are numbers in their order, and no mere choices; `log` that it is searched in logarithms.
    """

    key: str
    distribution: BaseDistribution
    values: tuple[Value, ...] | None = None
    is_scale: bool = False
    log: bool = False

    @property
    def ends(self) -> tuple[Value, ...]:
        """Its bounds, or every choice."""
        if isinstance(self.distribution, FloatDistribution | IntDistribution):
            return self.distribution.low, self.distribution.high
        assert self.values is not None
        return (self.values[0], self.values[-1]) if self.is_scale else self.values

    def nearest(self, value: Any) -> Any:
        """The value itself, or between the values of a scale the nearest of them, in logarithms if tagged so."""
        if self.values is None or not self.is_scale or not self.ends[0] <= value <= self.ends[1]:
            return value
        unit: Callable[[Any], float] = math.log if self.log else float
        return min(self.values, key=lambda accepted: abs(unit(accepted) - unit(value)))

    def accepted(self, value: Any) -> Value | None:
        """A value as the space writes it; None where it is outside."""
        if self.values is not None:
            return next((own for own in self.values if own == value), None)
        if isinstance(value, bool | str) or not self.ends[0] <= value <= self.ends[1]:
            return None
        whole = int(value) if float(value).is_integer() else None
        return whole if isinstance(self.distribution, IntDistribution) else float(value)

    def __str__(self) -> str:
        log = " log" if self.log else ""
        if self.values is None:
            return f"{self.key}{log} {self.ends[0]} to {self.ends[1]}"
        between = ", " if isinstance(self.distribution, CategoricalDistribution) else " < "
        shown = [*map(str, self.values[:MOST])]
        if len(self.values) > MOST:
            shown = [*shown[:-2], "…", str(self.values[-1])]
        return f"{self.key}{log} {between.join(shown)}"


@dataclass(frozen=True, kw_only=True)
class Space:
    """The parameters of a search, and the overrides that every one of its runs has beside them."""

    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {parameter.key: parameter.distribution for parameter in self.parameters}

    def nearest(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """These values, each the nearest that is accepted; keys of no parameter are left out."""
        return {p.key: p.nearest(params[p.key]) for p in self.parameters if p.key in params}

    def overrides(self, params: Mapping[str, Any], *, seed: int | None) -> list[str]:
        """The overrides of the run with these values; its seed is the configuration's where none is given."""
        return [
            *self.fixed,
            *(f"{key}={value}" for key, value in params.items()),
            *([] if seed is None else [f"seed={seed}"]),
        ]


def space_of(asked: Iterable[Override], *, choices: bool) -> Space:
    """The space of a multirun's overrides, of two for a key the last.

    Args:
        asked: overrides of the task.
        choices: whether the sampler takes a choice among numbers for what it is; else it is given their bounds.

    Raises:
        Refused: on bounds that are none, a scale that has no logarithm, values given twice, a folder that is searched,
            or where nothing is.
    """
    last = {override.get_key_element(): override for override in asked}
    found = {key: override for key, override in last.items() if override.is_sweep_override()}
    for key in found:
        if key in FOLDERS:
            raise Refused(f"{key} is searched: a search is kept in one folder, give {key} one value")
    if not found:
        raise Refused("nothing to search: give a key an interval or values, lr='tag(log, interval(1e-4, 1e-1))'")
    fixed = tuple(str(override.input_line) for key, override in last.items() if key not in found)
    return Space(parameters=tuple(_parameter(key, each, choices) for key, each in found.items()), fixed=fixed)


def written(value: Any) -> Value:
    """A value as an override and a study keep it: numbers and truth values as they are, all else as Hydra's text."""
    return value if isinstance(value, bool | int | float) else str(Transformer.str(value))


def _parameter(key: str, override: Override, choices: bool) -> Parameter:
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        raise Refused(f"{override.input_line}: accepted are the names themselves, separated by commas")
    value: Any = override.value()
    tags: set[str] = getattr(value, "tags", set())
    if odd := tags - {"log"}:
        raise Refused(f"{override.input_line}: unknown tag {min(odd)!r}, accepted is log")
    log = "log" in tags
    if override.is_interval_sweep():
        return Parameter(key=key, distribution=_interval(override, value.start, value.end, log=log), log=log)
    with refusing():
        values = tuple(written(value) for value in override.sweep_iterator())
    if len(set(values)) != len(values) or not values:
        raise Refused(f"{override.input_line}: accepted are different values, at least one")
    if override.is_choice_sweep() and not tags:
        return Parameter(key=key, distribution=CategoricalDistribution(values), values=values)
    ordered = _ordered(override, values, log=log)
    as_choice = choices and log and len(ordered) > 1
    distribution = CategoricalDistribution(ordered) if as_choice else _between(ordered, log=log)
    return Parameter(key=key, distribution=distribution, values=ordered, is_scale=True, log=log)


def _interval(override: Override, low: float, high: float, *, log: bool) -> FloatDistribution | IntDistribution:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise Refused(f"{override.input_line}: accepted are two finite bounds, the lower first")
    if log and low <= 0:
        raise Refused(f"{override.input_line}: accepted is a lower bound above 0 where it is tagged log")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _ordered(override: Override, values: tuple[Value, ...], *, log: bool) -> tuple[int | float, ...]:
    """The numbers of a range, or those that are tagged log, from the lowest."""
    numbers = [value for value in values if not isinstance(value, bool | str) and math.isfinite(value)]
    if len(numbers) < len(values) or (log and min(numbers) <= 0):
        raise Refused(f"{override.input_line}: accepted are numbers{' above 0' if log else ''}")
    return tuple(sorted(numbers))


def _between(ordered: Sequence[int | float], *, log: bool) -> FloatDistribution | IntDistribution:
    low, high = ordered[0], ordered[-1]
    step = None if log or len(ordered) == 1 else ordered[1] - low
    if all(isinstance(value, int) for value in ordered):
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)
