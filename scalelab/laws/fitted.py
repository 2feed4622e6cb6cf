"""A law fitted: estimates with intervals, the domain they hold on, what it predicts, and how far to trust it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalelab.errors import Refused, unknown
from scalelab.laws.law import Array, Law

STORED_DRAWS = 400  # kept in a fit for prediction intervals: the 2.5 % point then rests on ten draws
DISAGREE = 0.5  # of the interval's width: limits further apart than this disagree

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A fitted number with its 95 % interval and standard deviation `sd` (half the central 68 % of the draws).

    A limit that the data do not give is infinite (0 for a positive coefficient). Beside the interval stand those of
    three methods, None where one was not run: cluster bootstrap, profile likelihood, delta method.

    >>> Estimate(value=-0.93, low=-1.05, high=-0.82, sd=0.06).contains(-1.0)
    True
    """

    value: float
    low: float
    high: float
    sd: float
    bootstrap: Interval | None = None
    profile: Interval | None = None
    delta: Interval | None = None

    def z(self, theory: float) -> float:
        """How many standard deviations the estimate lies above `theory`."""
        return (self.value - theory) / self.sd if self.sd > 0 else math.copysign(math.inf, self.value - theory)

    def contains(self, theory: float) -> bool:
        """Whether `theory` lies in the 95 % interval."""
        return self.low <= theory <= self.high

    @property
    def disagreeing(self) -> bool:
        """Whether bootstrap and profile put a limit at places further apart than half the interval."""
        if self.bootstrap is None or self.profile is None:
            return False
        width = self.bootstrap[1] - self.bootstrap[0]
        apart = [abs(a - b) for a, b in zip(self.bootstrap, self.profile, strict=True) if a != b]
        return any(gap > DISAGREE * width for gap in apart)


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
class Search:
    """How the best parameters were looked for: `starts` screened, `followed` to their end, of which `reached` the best
    objective; `condition` of the correlation between parameters; `objective` in words; `clusters` that were resampled
    and what they are (`unit`); `aicc` for comparing forms on the same runs."""

    starts: int
    followed: int
    reached: int
    condition: float
    objective: str
    value: float
    clusters: int
    unit: str
    aicc: float
    r2: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to one group of runs, or to their optima.

    `reference` is x0 of every input the law was fitted in; `domain` is (min, max) of every scale the evidence states,
    including those that did not vary. `residuals` are measured minus fitted, in octaves of the output, one for each
    cell or run used, `n` of them; `scatter` is their standard deviation beyond what is known of their errors. `columns`
    says which column an input was taken from. `draws` hold draws of every parameter and of "scatter", the deviation of
    a new scale from the law, in octaves of the output.
    """

    law: Law
    estimates: dict[str, Estimate]
    reference: dict[str, float]
    domain: dict[str, Interval]
    residuals: tuple[float, ...]
    scatter: float
    n: int
    hold_out: HoldOut | None
    status: str
    draws: dict[str, tuple[float, ...]] = field(repr=False)
    columns: dict[str, str] = field(default_factory=dict)
    search: Search | None = None
    warnings: tuple[str, ...] = ()

    def predict(self, **inputs: float) -> Prediction:
        """The law's output at a scale; the interval is for a new scale's own value, so it includes the scatter.

        Every input of `reference` is needed. Other scales of the domain may be given: they do not move the value (they
        did not vary, or not on their own), but leaving their range is reported in `outside`.

        Raises:
            Refused: on a missing or unknown input, or one that is not a finite number > 0.
        """
        named = {self._input(name): value for name, value in inputs.items()}
        for name, value in named.items():
            if not (math.isfinite(value) and value > 0):
                raise Refused(f"{name}={value!r}: accepted is a finite number > 0")
        if missing := [name for name in self.reference if name not in named]:
            raise Refused(f"{self.law.name} needs {', '.join(self.reference)}: {', '.join(missing)} not given")
        at = {name: np.array(named[name] / x0) for name, x0 in self.reference.items()}
        value = float(self.law.value({name: np.array(e.value) for name, e in self.estimates.items()}, at))
        low, high = np.percentile(self.drawn(at), [2.5, 97.5])
        return Prediction(value=value, low=float(low), high=float(high), outside=outside(named, self.domain))

    def drawn(self, at: Mapping[str, Array]) -> Array:
        """Draws of a new scale's output, inputs as ratios to `reference`."""
        draws = {name: np.array(values) for name, values in self.draws.items()}
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            drawn = np.asarray(self.law.value(draws, at) * np.exp2(draws["scatter"]), dtype=float)
        return np.asarray(drawn[np.isfinite(drawn)])

    def summary(self) -> str:
        """The fit in a few lines of text."""
        head = f"{self.law.name}: {self.law.form}"
        rows = [
            f"  {name:10} {e.value:.5g} [{e.low:.4g}, {e.high:.4g}]{_by_method(e)}"
            for name, e in self.estimates.items()
        ]
        return "\n".join([head, *rows, f"  {self.status}", *(f"  warning: {text}" for text in self.warnings)])

    def plot_residuals(self, **options: Any) -> Any:
        """Residuals against the fitted value and every input; a matplotlib figure."""
        from scalelab.laws import draw

        return draw.residuals(self, **options)

    def plot_parameters(self, **options: Any) -> Any:
        """Bootstrap draws of the parameters in pairs; a matplotlib figure."""
        from scalelab.laws import draw

        return draw.pairs(self, **options)

    def plot_curve(self, **options: Any) -> Any:
        """The output against its most varied input, with the interval; a matplotlib figure."""
        from scalelab.laws import draw

        return draw.curve(self, **options)

    def _input(self, name: str) -> str:
        """An input by its own name or by its column's."""
        by_column = {column: of for of, column in self.columns.items()}
        found = by_column.get(name, name)
        if found not in self.domain and found not in self.reference:
            raise unknown("input", name, {*self.domain, *self.reference})
        return found


def outside(inputs: Mapping[str, float], domain: Mapping[str, Interval]) -> dict[str, float]:
    """By how many decades each input leaves its domain, those that do."""
    beyond = {}
    for name, value in inputs.items():
        low, high = domain[name]
        decades = max(math.log10(value / high), math.log10(low / value))
        if decades > 1e-9:
            beyond[name] = decades
    return beyond


def _by_method(e: Estimate) -> str:
    if e.bootstrap is None or e.profile is None:
        return ""
    (a, b), (c, d) = e.bootstrap, e.profile
    return f"  bootstrap [{a:.4g}, {b:.4g}], profile [{c:.4g}, {d:.4g}]"


def estimate(value: float, draws: Array) -> Estimate:
    """A point estimate with the interval and standard deviation of its draws."""
    low, middle_low, middle_high, high = np.percentile(draws, [2.5, 15.87, 84.13, 97.5])
    return Estimate(value=float(value), low=float(low), high=float(high), sd=float(middle_high - middle_low) / 2)


def stored(draws: Mapping[str, Array]) -> dict[str, tuple[float, ...]]:
    """Draws as a fit keeps them: the first `STORED_DRAWS`, rounded to six digits so that a file stays readable."""
    return {name: tuple(float(f"{x:.6g}") for x in draw[:STORED_DRAWS]) for name, draw in draws.items()}


def ranges(scales: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    """(min, max) of every scale."""
    return {name: (min(s[name] for s in scales), max(s[name] for s in scales)) for name in scales[0]}
