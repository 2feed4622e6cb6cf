"""`trap`: what small runs teach misleads. The best learning rate first rises and then falls with compute.

The schedule that is best below a twentieth of the full run is the worst at it; learning rate and weight decay are felt
by their product; the noise has heavy tails, and three runs in a hundred end far too high.
"""

import math

import numpy as np
from optuna.distributions import CategoricalDistribution

from search.problem import BY_COMPUTE, CEILING, Params, Problem, flops_of, log_space, lowest_floor, tokens_of

FULL = 1.2e19
SPACE = {
    **log_space(lr=(1e-5, 1e-1), batch=(1.6e4, 4e6), wd=(1e-3, 1.0)),
    "schedule": CategoricalDistribution(("constant", "cosine", "linear")),
    **log_space(N=(1e7, 1e9), C=(1e16, FULL)),
}
START = {"lr": 1e-3, "batch": 2.5e5, "wd": 0.1, "schedule": "cosine", "N": 3e7, "C": 1e17}
TURN = 3e17  # FLOPs at which the best learning rate is highest


def floor(n: float, d: float) -> float:
    return float(1.75 + 480 / n**0.35 + 1100 / d**0.33)


def of_schedule(schedule: str, compute: float) -> float:
    """Nats: constant is free up to a sixtieth of the full run, linear from a fifth on, cosine never."""
    late = float(np.interp(math.log(compute / FULL), [-math.log(60), -math.log(5)], [0, 1]))
    return {"constant": 0.03 * late, "cosine": 0.012, "linear": 0.02 * (1 - late)}[schedule]


def truth(params: Params) -> float:
    n, compute = params["N"], params["C"]
    late = math.log(compute / TURN)
    best_lr = 3e-3 * math.exp(-0.08 * late**2 - 0.15 * math.log(n / 1e8))
    best_product = 0.1 * best_lr * math.exp(-0.1 * late)
    if params["lr"] > 10 * best_lr * (params["wd"] / 0.1) ** -0.2:
        return math.inf
    u, v = math.log(params["lr"] / best_lr), math.log(params["batch"] / (4e5 * math.exp(0.3 * late)))
    p = math.log(params["lr"] * params["wd"] / best_product)
    valley = (0.04 if u > 0 else 0.02) * u * u + 0.01 * v * v + 0.015 * min(p * p, 9.0)
    return min(floor(n, tokens_of(params)) + valley + of_schedule(params["schedule"], compute), CEILING)


def noise(rng: np.random.Generator) -> float:
    spike = 0.1 * rng.exponential() if rng.uniform() < 0.03 else 0.0
    return float(0.003 * rng.standard_t(2.5) + spike)


def problem() -> Problem:
    return Problem(
        name="trap",
        space=SPACE,
        start=START,
        scales=("N", "C"),
        target={"C": FULL},
        sizes=BY_COMPUTE,
        cost_flops=flops_of,
        truth=truth,
        noise=noise,
        best_nats=lowest_floor(floor, SPACE["N"], FULL),
    )
