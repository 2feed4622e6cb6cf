"""The first runs: a few settings about the start, at cheap scales, at ever lower learning rates while all diverge."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.stats import qmc

from scalelab.samplers.law.axis import Axis
from scalelab.samplers.law.belief import Runs, centre, rates_of
from scalelab.samplers.law.coordinates import Coordinates, Spots

OPENING = 3  # runs of the opening, beside one for each hyperparameter
NEAR = 2.0  # times the start's cost: scales of the opening
REACH = 1.2  # e-folds about the start
LOWER = 1.4  # e-folds by which the learning rate goes down for each run of an opening in which all diverged


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A trial's parameters, how they were chosen, and why so."""

    params: Mapping[str, Any]
    phase: str
    why: str


def opening(
    coordinates: Coordinates, considered: Spots, runs: Runs, start: Mapping[str, Any], number: int, seed: int
) -> Chosen | None:
    """A run of the opening; None where it is over."""
    hypers = len(coordinates.hypers)
    seen = len(runs.loss_N) + len(runs.diverged) + len(runs.running)
    if len(runs.loss_N) and seen >= hypers + OPENING:
        return None
    rng = np.random.default_rng([seed, number])
    unit_H = qmc.Sobol(max(hypers, 1), rng=seed % 2**32).random(2 ** math.ceil(math.log2(number + 2)))[number, :hypers]
    middle_H = centre(coordinates, start)
    if len(runs.loss_N):
        middle_H = runs.ended.hyper_NH[int(np.argmin(runs.loss_N))]
    else:
        for rate in rates_of(coordinates):
            middle_H[rate] = max(middle_H[rate] - LOWER * len(runs.diverged), coordinates.bounds_H[0][rate])
    hyper_H = np.clip(middle_H + REACH * (2 * unit_H - 1), *coordinates.bounds_H)
    rows = _near(coordinates, considered, start)
    choice = coordinates.choices[int(rng.integers(len(coordinates.choices)))]
    params = coordinates.params(considered.scales[int(rng.choice(rows))], hyper_H, choice)
    return Chosen(params=params, phase="opening", why=f"{len(runs.loss_N)} runs ended, {len(runs.diverged)} diverged")


def _near(coordinates: Coordinates, considered: Spots, start: Mapping[str, Any]) -> npt.NDArray[np.intp]:
    """The scales of the opening: about as cheap as the start's, and not far from it."""
    if not all(axis.name in start for axis in coordinates.scales):
        return np.flatnonzero(considered.cost_M <= NEAR * considered.cost_M.min())
    here = coordinates.spots([{axis.name: start[axis.name] for axis in coordinates.scales}])
    far_M = np.abs(considered.points.size_NT - here.points.size_NT).max(axis=1, initial=0.0)
    cheap_M = considered.cost_M <= max(NEAR * here.cost_M[0], considered.cost_M.min())
    return np.flatnonzero(cheap_M & (far_M <= max(REACH, far_M[cheap_M].min())))


def independent(
    name: str, distribution: BaseDistribution, start: Mapping[str, Any], *, scale: bool, first: bool,
    rng: np.random.Generator,
) -> Any:  # fmt: skip
    """A value of one parameter before the space is known: the start's, or the middle (a scale's lowest); about that
    where it is not the first trial's."""
    if first and name in start:
        return start[name]
    axis = Axis.of_scale(name, distribution) if scale else Axis.of(name, distribution)
    if axis is None:
        assert isinstance(distribution, CategoricalDistribution)
        choices = distribution.choices
        return choices[0] if first else choices[int(rng.integers(len(choices)))]
    low, high = axis.range
    middle = axis.inward(start[name]) if name in start else low if scale else (low + high) / 2
    moved = 0.0 if first or scale else REACH * rng.uniform(-1, 1)
    return axis.outward(min(max(middle + moved, low), high))
