"""A study's parameters → the law's coordinates: what sets the scale, what has a valley, what lies outside the law."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from scalelab.errors import Refused, unknown
from scalelab.laws.law import Array
from scalelab.samplers.law.axis import Axis, Params
from scalelab.samplers.law.mean import FLOOR, Points

Cost = Callable[[Params], float]
FEW = 32  # combinations of choices that are all considered


@dataclass(frozen=True, kw_only=True, eq=False)
class Spots:
    """Scales among which something is chosen: their parameters and points (m) whose settings are of no account."""

    scales: Sequence[dict[str, Any]]
    points: Points
    cost_M: Array

    def __getitem__(self, rows: Any) -> "Spots":
        return Spots(scales=[self.scales[k] for k in rows], points=self.points[rows], cost_M=self.cost_M[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Coordinates:
    """The axes of a search; `weight_TS` makes ln sizes of ln scales, `cost` is of a run in FLOPs."""

    scales: tuple[Axis, ...]
    hypers: tuple[Axis, ...]
    others: Mapping[str, CategoricalDistribution]
    sizes: tuple[str, ...]
    weight_TS: Array
    cost: Cost
    middle_S: Array
    log_cost_middle: float

    @classmethod
    def of(
        cls, distributions: Mapping[str, BaseDistribution], *, scales: Sequence[str], cost: Cost,
        sizes: Mapping[str, Mapping[str, float]],
    ) -> "Coordinates":  # fmt: skip
        """The coordinates of a space.

        Args:
            distributions: Optuna's, by name.
            scales: the parameters that set the scale.
            cost: of a run with these parameters, in FLOPs.
            sizes: what the loss falls with, each a monomial of the scales, {scale: exponent}, up to a factor.

        Raises:
            Refused: where a scale is not in the space or is no positive number, and where the sizes do not tell the
                scales apart.
        """
        for name in scales:
            if name not in distributions:
                raise unknown("scale", name, distributions)
        for size, powers in sizes.items():
            for name in powers:
                if name not in scales:
                    raise unknown(f"scale in size {size}", name, scales)
        scale_axes = tuple(Axis.of_scale(name, distributions[name]) for name in scales)
        rest = {name: its for name, its in distributions.items() if name not in scales and not its.single()}
        if FLOOR in rest:
            raise Refused(f"a parameter is named {FLOOR!r}, as the law's own: call it otherwise")
        axes = {name: Axis.of(name, its) for name, its in rest.items()}
        weight_TS = np.array([[float(powers.get(name, 0.0)) for name in scales] for powers in sizes.values()])
        weight_TS = weight_TS.reshape(len(sizes), len(scales))
        if scales and np.linalg.matrix_rank(weight_TS) < len(scales):
            raise Refused(
                f"sizes {', '.join(sizes)} do not tell the scales {', '.join(scales)} apart: give as many, independent"
            )
        middle_S = np.array([sum(axis.range) / 2 for axis in scale_axes])
        middle = {axis.name: axis.outward(unit) for axis, unit in zip(scale_axes, middle_S, strict=True)}
        return cls(
            scales=scale_axes,
            hypers=tuple(axis for axis in axes.values() if axis is not None),
            others={n: its for n, its in rest.items() if axes[n] is None and isinstance(its, CategoricalDistribution)},
            sizes=tuple(sizes), weight_TS=weight_TS, cost=cost, middle_S=middle_S,
            log_cost_middle=math.log(flops_of(cost, middle)),
        )  # fmt: skip

    def points(self, params: Sequence[Params]) -> Points:
        """The points of trials."""
        return self._points(
            np.array([[a.inward(p[a.name]) for a in self.scales] for p in params]).reshape(
                len(params), len(self.scales)
            ),
            np.array([math.log(flops_of(self.cost, p)) for p in params]),
            np.array([[a.inward(p[a.name]) for a in self.hypers] for p in params]).reshape(
                len(params), len(self.hypers)
            ),
            self.encoded(params),
        )

    def spots(self, scales: Sequence[dict[str, Any]]) -> Spots:
        """Scales to choose from."""
        n = len(scales)
        cost_M = np.array([flops_of(self.cost, scale) for scale in scales])
        unit_MS = np.array([[a.inward(scale[a.name]) for a in self.scales] for scale in scales])
        unit_MS = unit_MS.reshape(n, len(self.scales))
        nothing = (np.zeros((n, len(self.hypers))), np.zeros((n, self.columns)))
        return Spots(scales=scales, points=self._points(unit_MS, np.log(cost_M), *nothing), cost_M=cost_M)

    def stencil(self, scale: Params, step_NS: Array, hyper_NH: Array, choice: Params) -> Points:
        """Points about one scale, in the law's units and also beyond the bounds, all at its cost."""
        base_S = np.array([a.inward(scale[a.name]) for a in self.scales])
        n = len(step_NS)
        log_cost_N = np.full(n, math.log(flops_of(self.cost, scale)))
        return self._points(base_S + step_NS, log_cost_N, hyper_NH, self.encoded([choice] * n))

    def _points(self, scale_NS: Array, log_cost_N: Array, hyper_NH: Array, other_NO: Array) -> Points:
        return Points(
            size_NT=(scale_NS - self.middle_S) @ self.weight_TS.T, cost_N=log_cost_N - self.log_cost_middle,
            hyper_NH=hyper_NH, other_NO=other_NO,
        )  # fmt: skip

    @property
    def columns(self) -> int:
        """How many columns the choices outside the law take."""
        return sum(len(its.choices) for its in self.others.values())

    def encoded(self, params: Sequence[Params]) -> Array:
        """Choices outside the law (n, O), a column for each value."""
        rows = [[float(p[n] == value) for n, its in self.others.items() for value in its.choices] for p in params]
        return np.array(rows).reshape(len(params), self.columns)

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Every combination outside the law where they are few, else each value once beside the others' first."""
        names = list(self.others)
        if math.prod(len(its.choices) for its in self.others.values()) <= FEW:
            every = itertools.product(*(its.choices for its in self.others.values()))
            return [dict(zip(names, values, strict=True)) for values in every]
        first = {n: its.choices[0] for n, its in self.others.items()}
        return [first, *({**first, n: value} for n, its in self.others.items() for value in its.choices[1:])]

    def params(self, scale: Params, hyper_H: Array, choice: Params) -> dict[str, Any]:
        """A trial's parameters."""
        hypers = {a.name: a.outward(unit) for a, unit in zip(self.hypers, hyper_H, strict=True)}
        return {**{a.name: scale[a.name] for a in self.scales}, **hypers, **choice}

    @property
    def bounds_H(self) -> tuple[Array, Array]:
        """Lowest and highest settings, in the law's units."""
        both = np.array([a.range for a in self.hypers]).reshape(len(self.hypers), 2)
        return both[:, 0], both[:, 1]


def about(points: Points, hyper_MEH: Array, other_MEO: Array) -> Points:
    """E points at each of m scales, one scale after another."""
    m, e, _ = hyper_MEH.shape
    return Points(
        size_NT=np.repeat(points.size_NT, e, axis=0), cost_N=np.repeat(points.cost_N, e),
        hyper_NH=hyper_MEH.reshape(m * e, -1), other_NO=other_MEO.reshape(m * e, -1),
    )  # fmt: skip


def flops_of(cost: Cost, params: Params) -> float:
    """What a run with these parameters costs.

    Raises:
        Refused: where that is not a positive number, or is made of what sets no scale.
    """
    given = ", ".join(f"{name}={value}" for name, value in params.items())
    try:
        flops = cost(params)
    except KeyError as missing:
        raise Refused(
            f"the cost reads {missing} and is asked for scales alone, {given}: name {missing} in scales"
        ) from None
    if not 0 < flops < math.inf:
        raise Refused(f"the cost of {given} is {flops}: accepted is a positive number of FLOPs")
    return float(flops)
