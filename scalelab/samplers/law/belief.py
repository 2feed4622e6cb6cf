"""A study's trials → what is believed: the law's posterior and where runs diverge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalelab.laws.law import Array
from scalelab.samplers.evidence import Outcome, Seen
from scalelab.samplers.law import edge, fitting
from scalelab.samplers.law.coordinates import Coordinates
from scalelab.samplers.law.mean import Law, Points, Rows, joined
from scalelab.samplers.law.prior import theta_prior
from scalelab.samplers.law.roles import role
from scalelab.samplers.law.target import Outlook

DEPTH = 0.25  # of a valley, as a share of the loss, from where on it rises ever more slowly: assumed
KEPT = 300  # runs that a posterior is made of
BINS = 12  # of cost, from each of which as many are kept
STARTS = 3  # runs with the lowest losses, about which the law is searched for


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """What the trials say: points and losses of those that ended, points of those that diverged or still run."""

    ended: Points
    loss_N: Array
    diverged: Points
    running: Points
    spent: float
    dearest: float

    @classmethod
    def of(cls, seen: Sequence[Seen], coordinates: Coordinates) -> "Runs":
        groups = {outcome: [s for s in seen if s.outcome is outcome] for outcome in Outcome}
        points = {outcome: coordinates.points([s.params for s in group]) for outcome, group in groups.items()}
        flops = {outcome: np.exp(at.cost_N + coordinates.log_cost_middle) for outcome, at in points.items()}
        return cls(
            ended=points[Outcome.OK], loss_N=np.array([s.loss for s in groups[Outcome.OK]]),
            diverged=points[Outcome.DIVERGED], running=points[Outcome.RUNNING],
            spent=float(sum(each.sum() for each in flops.values())),
            dearest=float(flops[Outcome.OK].max(initial=0.0)),
        )  # fmt: skip


def rates_of(coordinates: Coordinates) -> list[int]:
    """The places of the learning rates among the hyperparameters."""
    return [place for place, axis in enumerate(coordinates.hypers) if role(axis.name) == "lr"]


def outlook(
    runs: Runs, coordinates: Coordinates, start: Mapping[str, Any], parametrization: str | None,
    priors: Mapping[str, tuple[float, float]], rng: np.random.Generator, *, judged: bool = False,
) -> Outlook:  # fmt: skip
    """What is believed after the runs, of which one has ended at least; `judged`: and whether the law fits."""
    kept = _kept(runs)
    points, loss_N = runs.ended[kept], runs.loss_N[kept]
    unit = max(abs(float(np.median(loss_N))), float(np.ptp(loss_N)), 1e-12)
    law = Law(sizes=coordinates.sizes, hypers=tuple(axis.name for axis in coordinates.hypers), depth=DEPTH)
    mean_P, sd_P = theta_prior(
        law, centre(coordinates, start), level=float(loss_N.min()) / unit, parametrization=parametrization, given=priors
    )
    starts = []
    for row in np.argsort(loss_N, kind="stable")[:STARTS]:
        starts.append(mean_P.copy())
        starts[-1][[law.first(place) for place in range(len(law.hypers))]] = points.hyper_NH[row]
    rates = rates_of(coordinates)
    alone = len(rates) == 1 and len(runs.diverged)  # of several rates any may have been too high
    bound = fitting.Bound(place=rates[0], points=runs.diverged) if alone else None
    told = fitting.Runs(points=points, loss_N=loss_N / unit, bound=bound)
    fitted = fitting.fit(law, told, mean_P=mean_P, sd_P=sd_P, unit=unit, starts=starts, judged=judged)
    every = joined([points, runs.diverged])
    diverged_N = np.append(np.zeros(len(points)), np.ones(len(runs.diverged)))
    return Outlook.of(coordinates, fitted, edge.fit(law, fitted.theta_P, every, diverged_N, rates=rates), rng)


def centre(coordinates: Coordinates, start: Mapping[str, Any]) -> Array:
    """Where the optima are looked for first: the start's settings, or the middles of the ranges."""
    return np.array([
        axis.inward(start[axis.name]) if axis.name in start else sum(axis.range) / 2 for axis in coordinates.hypers
    ])  # fmt: skip


def _kept(runs: Runs) -> Rows:
    """The runs that say most, at most `KEPT`: the lowest losses among those of like cost."""
    n = len(runs.loss_N)
    if n <= KEPT:
        return np.arange(n)
    order = np.lexsort((np.arange(n), runs.ended.cost_N))
    bins = np.array_split(order, BINS)
    ranked = [bin_[np.argsort(runs.loss_N[bin_], kind="stable")] for bin_ in bins]
    return np.sort(np.concatenate([bin_[: KEPT // BINS] for bin_ in ranked]))
