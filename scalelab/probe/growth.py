"""How a stability diagnostic grows with size, and whether that ends at a limit: one line a quantity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.parametrizations.table import Family
from scalelab.probe.slopes import Estimate, trend
from scalelab.probe.walk import parts
from scalelab.spec import RunSpec

Series = Mapping[str, Sequence[Sequence[Sequence[float]]]]  # quantity → [scale][seed][step]
ATTENTION, GRADIENT = "max attention logit", "gradient RMS"
# The runs of arXiv:2309.14322 whose largest attention logit passed this diverged (its §3.3).
ATTENTION_LIMIT = 1e4
# How a run's values become one: quantities whose peak does the harm, all others by their last value.
PEAKS = (ATTENTION, "max |output logit|", "RMS log-partition", "gradient norm")
UNFITTED = ("loss", "mean output logit")  # no power: the one has a floor, the other a sign


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How one quantity grows: `sizes` [scale] are geometric means over seeds of a run's peak or last value.

    `limit` is the value at the target that it must not pass (`above`: upwards), None where none is known. `verdict` is
    "ok", "passes the limit", "may pass the limit" (the interval does, or there is none and the value is within a factor
    of ten) or "no limit known".
    """

    quantity: str
    sizes: tuple[float, ...]
    exponent: Estimate
    at_target: Estimate | None
    limit: float | None
    above: bool
    verdict: str


def growths(
    specs: Sequence[Sequence[RunSpec]],
    series: Series,
    values: Sequence[int],
    target: int | None,
) -> tuple[Growth, ...]:
    """The growth of every quantity that is a power of the size, at a target or (None) at the largest size."""
    limits = _eps_limits(specs, values, target) | {ATTENTION: ATTENTION_LIMIT}
    found = []
    for name, runs in series.items():
        if name in UNFITTED:
            continue
        at_end = np.array([[_summary(name, run) for run in row] for row in runs])
        if not (at_end > 0).all():  # NaN, too: a part without a gradient, a run that diverged at once
            continue
        line = trend(values, at_end, target)
        sizes = np.exp(np.log(at_end).mean(axis=1))
        limit, above = limits.get(name), not name.startswith(GRADIENT)
        at = line.at_target or Estimate(value=float(sizes[-1]), low=float(sizes[-1]), high=float(sizes[-1]))
        found.append(
            Growth(
                quantity=name, sizes=tuple(sizes.tolist()), exponent=line.exponent, at_target=line.at_target,
                limit=limit, above=above, verdict=_verdict(at, limit, above=above),
            )
        )  # fmt: skip
    return tuple(found)


def _summary(name: str, run: Sequence[float]) -> float:
    finite = [value for value in run if np.isfinite(value)]
    if not finite:
        return np.nan
    return max(finite) if name.startswith(PEAKS) else finite[-1]


def _eps_limits(specs: Sequence[Sequence[RunSpec]], values: Sequence[int], target: int | None) -> dict[str, float]:
    """Adam's eps at the target for each class of gradients, on the line through the sizes' resolved ones."""
    resolved = [parts(of_size[0]) for of_size in specs]
    found = {}
    for label, part in resolved[0].items():
        if part.family is Family.ADAM and part.eps is not None:
            eps = np.array([[at[label].eps] for at in resolved])
            line = trend(values, eps, target)
            found[f"{GRADIENT}: {label}"] = float(eps[-1, 0]) if line.at_target is None else line.at_target.value
    return found


def _verdict(at: Estimate, limit: float | None, *, above: bool) -> str:
    if limit is None:
        return "no limit known"
    sign = 1 if above else -1
    edge = at.high if above else at.low
    if sign * (at.value - limit) > 0:
        return "passes the limit"
    near = at.value * 10.0**sign if edge is None else edge
    return "may pass the limit" if sign * (near - limit) > 0 else "ok"
