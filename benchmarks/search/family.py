"""`family`: surfaces that nobody tuned on. Every seed draws its own exponents, valleys, cliff and noise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from search.problem import (
    BY_COMPUTE,
    BY_TOKENS,
    CEILING,
    Params,
    Problem,
    flops_of,
    gaussian,
    log_space,
    lowest_floor,
    tokens_of,
)

SETTINGS = {"lr": (1e-5, 1e-1), "batch": (1.6e4, 4e6)}
WEIGHT_DECAY = {"wd": (1e-3, 1.0)}
SIZE = {"N": (1e7, 1e9)}
MIDDLE_N, MIDDLE_D = 1e8, 2e9


@dataclass(frozen=True, kw_only=True)
class Valley:
    """Nats off an optimum: height·|x|^power, `skew` times as much above it, at most `most`."""

    height: float
    power: float
    skew: float
    most: float

    def __call__(self, x: float) -> float:
        return float(min(self.height * (self.skew if x > 0 else 1.0) * abs(x) ** self.power, self.most))


@dataclass(frozen=True, kw_only=True)
class Line:
    """ln of a best setting against x = ln(N/1e8) and y = ln(D/2e9): level + a·x + b·y + bend·x², bounded by ±`stop`."""

    level: float
    a: float
    b: float
    bend: float
    stop: float

    def __call__(self, n: float, d: float) -> float:
        x, y = math.log(n / MIDDLE_N), math.log(d / MIDDLE_D)
        return self.level + self.stop * math.tanh((self.a * x + self.b * y + self.bend * x * x) / self.stop)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A floor e + (A^g + B^g)^(1/g) of two powers, valleys about moving optima, and a cliff above the learning rate's.

    Attributes:
        terms: the nats of size and of data in the middle of the space, each with its exponent.
        join: g, 1 where the terms add.
        best: ln of the best setting, by its name, and `off` the nats about it.
        shared: how far the best ln(lr) moves with ln(batch), and the best ln(wd) with ln(lr).
        cliff: ln of the divergence's learning rate over the best, and its slope in ln batch over the best.
    """

    e: float
    terms: tuple[tuple[float, float], tuple[float, float]]
    join: float
    best: Mapping[str, Line]
    off: Mapping[str, Valley]
    shared: tuple[float, float]
    cliff: tuple[float, float]

    def floor(self, n: float, d: float) -> float:
        (a, alpha), (b, beta) = self.terms
        of_size, of_data = a * (n / MIDDLE_N) ** -alpha, b * (d / MIDDLE_D) ** -beta
        return float(self.e + (of_size**self.join + of_data**self.join) ** (1 / self.join))

    def truth(self, params: Params) -> float:
        n, d = params["N"], tokens_of(params)
        away = {name: math.log(params[name]) - self.best[name](n, d) for name in self.best if name in params}
        if away["lr"] > self.cliff[0] + self.cliff[1] * away["batch"]:
            return math.inf
        if "wd" in away:
            away["wd"] += self.shared[1] * away["lr"]
        away["lr"] -= self.shared[0] * away["batch"]
        return min(self.floor(n, d) + sum(self.off[name](x) for name, x in away.items()), CEILING)


def drawn(rng: np.random.Generator) -> Surface:
    """Exponents scattered about published ones (arXiv:2203.15556, arXiv:2503.04715), everything else over its range."""

    def line(level: float, a: float, b: float, stop: float) -> Line:
        return Line(
            level=math.log(level) + rng.normal(0, 0.4),
            a=rng.normal(a, 0.2),
            b=rng.normal(b, 0.15),
            bend=rng.normal(0, 0.04),
            stop=stop,
        )

    def valley(low: float, high: float) -> Valley:
        height = math.exp(rng.uniform(math.log(low), math.log(high)))
        return Valley(height=height, power=rng.uniform(1.4, 2.6), skew=rng.uniform(0.7, 3), most=rng.uniform(0.3, 3))

    return Surface(
        e=rng.uniform(1.4, 2.2),
        terms=((rng.uniform(0.4, 1), rng.uniform(0.2, 0.45)), (rng.uniform(0.5, 1.2), rng.uniform(0.2, 0.45))),
        join=rng.choice([1.0, rng.uniform(1, 2)]),
        best={
            "lr": line(2e-3, -0.45, 0.1, 2.5),
            "batch": line(3e5, 0.0, 0.45, 1.8),
            "wd": line(0.1, 0.0, -0.1, 1.2),
        },
        off={"lr": valley(0.01, 0.06), "batch": valley(0.005, 0.03), "wd": valley(0.003, 0.015)},
        shared=(rng.uniform(-0.1, 0.5), rng.uniform(0, 1)),
        cliff=(rng.uniform(1, 3), rng.uniform(0, 0.4)),
    )


def problem(seed: int) -> Problem:
    """The surface of a seed: by tokens or by compute, with weight decay or without, its noise Gaussian or heavy."""
    rng = np.random.default_rng([seed, 1])
    surface = drawn(rng)
    by_compute, decays, heavy = rng.uniform(size=3) < 0.5
    scale = {"C": (1e16, 1.2e19)} if by_compute else {"D": (2e8, 2e10)}
    space = log_space(**SETTINGS, **(WEIGHT_DECAY if decays else {}), **SIZE, **scale)
    target = {"C": 1.2e19} if by_compute else {"N": SIZE["N"][1], "D": scale["D"][1]}
    start = {"lr": 1e-3, "batch": 2.5e5, **({"wd": 0.1} if decays else {}), "N": 3e7}
    sd = float(np.exp(rng.uniform(np.log(0.002), np.log(0.008))))

    if by_compute:
        best = lowest_floor(surface.floor, space["N"], target["C"])
    else:
        best = surface.floor(target["N"], target["D"])

    def student(draw: np.random.Generator) -> float:
        return float(sd * draw.standard_t(3))

    return Problem(
        name=f"family {seed}",
        space=space,
        start={**start, **({"C": 1e17} if by_compute else {"D": 6e8})},
        scales=("N", *scale),
        target=target,
        sizes=BY_COMPUTE if by_compute else BY_TOKENS,
        cost_flops=flops_of,
        truth=surface.truth,
        noise=student if heavy else gaussian(sd),
        best_nats=best,
    )
