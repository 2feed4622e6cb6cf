"""A problem of the search: a loss over settings and scale whose truth is known, what a run costs, and where it ends."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution

Params = Mapping[str, Any]
Noise = Callable[[np.random.Generator], float]

CEILING = 7.5  # nats: what a model that learned nothing leaves, and a recommendation that diverges costs


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a sampler may know (all but `truth`, `noise` and `best_nats`) and what it is judged by.

    Attributes:
        space: every coordinate, scale included.
        start: an ordinary recipe at a cheap scale, which every sampler runs first.
        scales: the coordinates that make a run larger.
        target: the values of the scales at the full run; a scale that is absent is free there.
        sizes: parameters and tokens as monomials of the scales, up to a constant.
        cost_flops: what training takes.
        truth: the loss without noise, in nats; infinite where the run diverges.
        noise: nats, added to the truth.
        best_nats: the lowest truth at the target.
    """

    name: str
    space: Mapping[str, BaseDistribution]
    start: Params
    scales: tuple[str, ...]
    target: Mapping[str, float]
    sizes: Mapping[str, Mapping[str, float]]
    cost_flops: Callable[[Params], float]
    truth: Callable[[Params], float]
    noise: Noise
    best_nats: float

    @property
    def full_flops(self) -> float:
        """What one full run takes: the unit of compute in every table."""
        return self.cost_flops({**self.start, **self.target})

    def observed(self, params: Params, rng: np.random.Generator) -> float:
        """The loss that a run ends with: infinite where it diverges."""
        return self.truth(params) + self.noise(rng)

    def regret(self, params: Params) -> float:
        """What a configuration costs over the best at the target, in % of loss."""
        return 100 * (min(self.truth(params), CEILING) / self.best_nats - 1)

    def at_share(self, share: float) -> dict[str, float]:
        """The target's coordinates at a share of its cost: each shrunk alike, as far as the space goes down."""
        left, found = share, {}
        for k, (name, value) in enumerate(self.target.items()):
            found[name] = max(ends(self.space[name])[0], value * left ** (1 / (len(self.target) - k)))
            left /= found[name] / value
        return found

    def moved(self, params: Params, scale: Mapping[str, float]) -> dict[str, Any]:
        """The same settings where the target's coordinates are these, a free scale growing as the root of compute."""
        growth = math.sqrt(self.cost_flops({**params, **scale}) / self.cost_flops(params))
        free = {name: (params[name] * growth, *ends(self.space[name])) for name in self.scales if name not in scale}
        return {**params, **{name: min(max(value, low), high) for name, (value, low, high) in free.items()}, **scale}

    def raised(self, params: Params) -> dict[str, Any]:
        """The same settings at the target."""
        return self.moved(params, self.target)


def log_space(**ranges: tuple[float, float]) -> dict[str, BaseDistribution]:
    """Coordinates on a log scale."""
    return {name: FloatDistribution(low, high, log=True) for name, (low, high) in ranges.items()}


def gaussian(sd: float) -> Noise:
    """Noise of a standard deviation in nats."""
    return lambda rng: sd * float(rng.standard_normal())


# The two ways in which the scale of a run is stated: by parameters and tokens, or by parameters and compute.
BY_TOKENS: Mapping[str, Mapping[str, float]] = {"params": {"N": 1}, "tokens": {"D": 1}}
BY_COMPUTE: Mapping[str, Mapping[str, float]] = {"params": {"N": 1}, "tokens": {"C": 1, "N": -1}}


def tokens_of(params: Params) -> float:
    """Tokens of a run by C = 6ND, where its compute is given."""
    return float(params["D"] if "D" in params else params["C"] / (6 * params["N"]))


def flops_of(params: Params) -> float:
    """Training FLOPs, 6ND."""
    return float(params["C"] if "C" in params else 6 * params["N"] * params["D"])


def lowest_floor(floor: Callable[[float, float], float], sizes: BaseDistribution, compute: float) -> float:
    """The lowest of a floor (parameters, tokens) over the sizes where compute is given."""
    return min(floor(n, compute / (6 * n)) for n in np.geomspace(*ends(sizes), 2000))


def ends(each: BaseDistribution) -> tuple[float, float]:
    """The bounds of a range."""
    assert isinstance(each, FloatDistribution)
    return each.low, each.high
