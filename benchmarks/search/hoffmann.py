"""`synth5`: Hoffmann's floor, Step Law's optimum, weight decay by its timescale, and a cliff above the optimum.

The floor is arXiv:2203.15556's, the optimum of learning rate and batch arXiv:2503.04715's; the valley is steeper above
the best learning rate than below, and the timescale of weight decay is that of arXiv:2405.13698.
"""

import math

from search.problem import BY_COMPUTE, CEILING, Params, Problem, flops_of, gaussian, log_space, lowest_floor, tokens_of

SPACE = log_space(lr=(1e-5, 1e-1), batch=(1.6e4, 4e6), wd=(1e-3, 1.0), N=(1e7, 1e9), C=(1e16, 1.2e19))
START = {"lr": 1e-3, "batch": 2.5e5, "wd": 0.1, "N": 3e7, "C": 1e17}
BEST_TIMESCALE = 0.08  # of the moving average that AdamW's weights are, as a share of the run


def floor(n: float, d: float) -> float:
    return float(1.69 + 406.4 / n**0.34 + 410.7 / d**0.28)


def best_lr(n: float, d: float) -> float:
    return float(1.79 * n**-0.713 * d**0.307)


def best_batch(d: float) -> float:
    return float(0.58 * d**0.571)


def truth(params: Params) -> float:
    lr, batch, wd, n = (params[name] for name in ("lr", "batch", "wd", "N"))
    d = tokens_of(params)
    relative_batch = batch / best_batch(d)
    if lr > 14 * best_lr(n, d) * (wd / 0.1) ** -0.1 * relative_batch**0.25:
        return math.inf
    u, v = math.log(lr / best_lr(n, d)), math.log(relative_batch)
    w = math.log(batch / (lr * wd * d) / BEST_TIMESCALE)
    valley = (0.0352 if u > 0 else 0.022) * u * u + 0.012 * v * v - 0.010 * u * v + 0.004 * min(w * w, 25.0)
    return min(floor(n, d) + valley, CEILING)


def problem() -> Problem:
    return Problem(
        name="synth5",
        space=SPACE,
        start=START,
        scales=("N", "C"),
        target={"C": 1.2e19},
        sizes=BY_COMPUTE,
        cost_flops=flops_of,
        truth=truth,
        noise=gaussian(0.004),
        best_nats=lowest_floor(floor, SPACE["N"], 1.2e19),
    )
