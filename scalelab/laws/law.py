"""A law, and a law fitted.

A `Law` states what depends on what, in which units and who said so; it knows how to evaluate itself and how to be
fitted to the optima of a group. A `Fit` is what came out: estimates with intervals, the domain they hold on, residuals,
how the largest scale was predicted from the others, and a status whose text says what to try.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scalelab.errors import Refused, unknown
from scalelab.laws.cells import Array
from scalelab.laws.optimum import Optimum

STORED_DRAWS = 400  # kept in a fit for prediction intervals: the 2.5 % point then rests on ten draws


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a law may be fitted to: a group's optima, draws of shape (draws, cells) of their log2 LR (NaN where not
    fitted), the columns that count as scale, exponents that theory fixes, and a generator for the bootstrap."""

    optima: Sequence[Optimum]
    log2_lr_DC: Array
    scales: Sequence[str]
    theory: Mapping[str, float]
    rng: np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law's form: `inputs` name → unit, `output` and its `unit`, `form` as text, `source` where it comes from.

    `evaluate(parameters, log2_ratios)` gives the output; parameters are scalars or draws, ratios are log2(x/x0) of each
    input to the fit's reference. `fit` raises `Refused` where the evidence cannot carry the law.
    """

    name: str
    inputs: Mapping[str, str]
    output: str
    unit: str
    form: str
    source: str
    evaluate: Callable[[Mapping[str, Array], Mapping[str, float]], Array] = field(repr=False)
    fit: Callable[[Evidence], "Fit"] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A fitted number with its 95 % interval and standard deviation `sd` (half the central 68 % of the draws).

    >>> Estimate(value=-0.93, low=-1.05, high=-0.82, sd=0.06).contains(-1.0)
    True
    """

    value: float
    low: float
    high: float
    sd: float

    def z(self, theory: float) -> float:
        """How many standard deviations the estimate lies above `theory`."""
        return (self.value - theory) / self.sd if self.sd > 0 else math.copysign(math.inf, self.value - theory)

    def contains(self, theory: float) -> bool:
        """Whether `theory` lies in the 95 % interval."""
        return self.low <= theory <= self.high


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """The largest scale, predicted from the others: the error in octaves of LR (positive: predicted too high) and what
    it would have cost in nats, by the held-out cell's own valley."""

    scale: dict[str, float]
    predicted_log2_lr: float
    measured_log2_lr: float
    error_octaves: float
    excess_nats: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A predicted value with its 95 % interval; `outside` says by how many decades each input leaves the domain."""

    value: float
    low: float
    high: float
    outside: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to the optima of one group.

    `reference` is x0 of every input the law was fitted in; `domain` is (min, max) of every scale the evidence states,
    including those that did not vary. `residuals` are measured minus fitted, in the units of `scatter` (octaves for an
    LR law, nats for a loss law), one for each cell with a fitted valley; `scatter` is the standard deviation between
    cells beyond their own errors. `n` counts the cells used. `draws` hold bootstrap draws of every parameter and of
    "scatter", the deviation of a new scale from the law.
    """

    law: Law
    estimates: dict[str, Estimate]
    reference: dict[str, float]
    domain: dict[str, tuple[float, float]]
    residuals: tuple[float, ...]
    scatter: float
    n: int
    hold_out: HoldOut | None
    status: str
    draws: dict[str, tuple[float, ...]] = field(repr=False)

    def predict(self, **inputs: float) -> Prediction:
        """The law's output at a scale; the interval is for a new scale's own value, so it includes the scatter.

        Every input of `reference` is needed. Other scales of the domain may be given: they do not move the value (they
        did not vary, or not on their own), but leaving their range is reported in `outside`.

        Raises:
            Refused: on a missing or unknown input, or one that is not a finite number > 0.
        """
        for name, value in inputs.items():
            if name not in self.domain:
                raise unknown("input", name, self.domain)
            if not (math.isfinite(value) and value > 0):
                raise Refused(f"{name}={value!r}: accepted is a finite number > 0")
        if missing := [name for name in self.reference if name not in inputs]:
            raise Refused(f"{self.law.name} needs {', '.join(self.reference)}: {', '.join(missing)} not given")
        ratios = {name: math.log2(inputs[name] / at) for name, at in self.reference.items()}
        point = {name: np.array(estimate.value) for name, estimate in self.estimates.items()}
        predicted = self.law.evaluate({**point, "scatter": np.array(0.0)}, ratios)
        drawn = self.law.evaluate({name: np.array(draw) for name, draw in self.draws.items()}, ratios)
        low, high = np.percentile(drawn, [2.5, 97.5])
        return Prediction(value=float(predicted), low=float(low), high=float(high), outside=self._outside(inputs))

    def _outside(self, inputs: Mapping[str, float]) -> dict[str, float]:
        beyond = {}
        for name, value in inputs.items():
            low, high = self.domain[name]
            decades = max(math.log10(value / high), math.log10(low / value))
            if decades > 1e-9:
                beyond[name] = decades
        return beyond


def estimate(value: float, draws: Array) -> Estimate:
    """A point estimate with the interval and standard deviation of its draws."""
    low, middle_low, middle_high, high = np.percentile(draws, [2.5, 15.87, 84.13, 97.5])
    return Estimate(value=float(value), low=float(low), high=float(high), sd=float(middle_high - middle_low) / 2)


def stored(draws: Mapping[str, Array]) -> dict[str, tuple[float, ...]]:
    """Draws as a fit keeps them: the first `STORED_DRAWS`, rounded to six digits so that a file stays readable."""
    return {name: tuple(float(f"{x:.6g}") for x in draw[:STORED_DRAWS]) for name, draw in draws.items()}


def ranges(optima: Sequence[Optimum]) -> dict[str, tuple[float, float]]:
    """(min, max) of every scale over the cells."""
    return {name: (min(o.scale[name] for o in optima), max(o.scale[name] for o in optima)) for name in optima[0].scale}
