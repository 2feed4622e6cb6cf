"""`bent`: no power law anywhere. The best settings stop moving with scale, and a cliff follows a flat bottom.

The best learning rate falls with size until 1e8 parameters and stays; the best batch grows until 6e9 tokens and then
hardly; the floor's two terms are joined as in arXiv:2001.08361, eq. 1.5, and gain from size less above 1e8.
"""

import math

from search.problem import BY_TOKENS, CEILING, Params, Problem, flops_of, gaussian, log_space

SPACE = log_space(lr=(1e-5, 1e-1), batch=(1.6e4, 4e6), N=(1e7, 1e9), D=(2e8, 2e10))
START = {"lr": 1e-3, "batch": 2.5e5, "N": 3e7, "D": 6e8}
TARGET = {"N": 1e9, "D": 2e10}
FLAT = 0.4  # in ln(lr), on each side of the optimum


def until(x: float, bend: float) -> float:
    """x below zero and 0 above, rounded over `bend`."""
    return -bend * math.log1p(math.exp(-x / bend))


def floor(n: float, d: float) -> float:
    log_n, log_d = math.log(n / 1e8), math.log(d / 2e9)
    of_size = 0.6 * math.exp(-0.25 * log_n - 0.25 * until(log_n, 0.3))
    of_data = 0.5 * math.exp(-0.35 * log_d)
    return 1.8 + math.hypot(of_size, of_data)


def best_lr(n: float, d: float) -> float:
    return 2e-3 * math.exp(-0.55 * until(math.log(n / 1e8), 0.3) + 0.05 * math.log(d / 2e9))


def best_batch(d: float) -> float:
    return 5e5 * math.exp(0.55 * until(math.log(d / 6e9), 0.3) + 0.1 * math.log(d / 6e9))


def truth(params: Params) -> float:
    n, d = params["N"], params["D"]
    u, v = math.log(params["lr"] / best_lr(n, d)), math.log(params["batch"] / best_batch(d))
    if u > 1.6 + 0.2 * v:
        return math.inf
    of_lr = 0.04 * (-u - FLAT) ** 1.5 if u < -FLAT else 0.25 * max(u - FLAT, 0.0) ** 2
    of_batch = (0.05 if v > 0 else 0.025) * (math.sqrt(1 + v * v) - 1)
    return min(floor(n, d) + of_lr + of_batch, CEILING)


def problem() -> Problem:
    return Problem(
        name="bent",
        space=SPACE,
        start=START,
        scales=("N", "D"),
        target=TARGET,
        sizes=BY_TOKENS,
        cost_flops=flops_of,
        truth=truth,
        noise=gaussian(0.004),
        best_nats=floor(**{name.lower(): value for name, value in TARGET.items()}),
    )
