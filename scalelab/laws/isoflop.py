"""Chinchilla's Approach 2: the best size at each FLOP budget, from its valley of loss against size (arXiv:2203.15556).

A valley is interpolated by Akima's splines in log N, log loss, as Porian et al. do (arXiv:2406.19146), and its bottom
found again with noise added to every loss, which gives the bottom's own uncertainty. A parabola through the lowest
points varies less, but is biased where sizes are far apart or the valley is skewed or off centre (arXiv:2603.22339).
"""

import math

import numpy as np
import pandas as pd

from scalelab.errors import Refused, unknown
from scalelab.laws.compute_optimal import Budget, IsoFlop, line, power_of_cost, with_cost
from scalelab.laws.fitted import estimate
from scalelab.laws.isoflop_valley import BOTTOMS, LEAST_SIZES, Valley, valleys_of
from scalelab.laws.law import Array
from scalelab.laws.optima.noise import Noise

LEAST_DRAWS = 10
FLOOR = 0.33  # of the spacing of sizes: no bottom is known better than that (arXiv:2406.19146, its code)
LEAST_INSIDE = 0.5  # share of the noisy bottoms that lie inside, for a budget to count


def isoflop(
    table: pd.DataFrame, *, method: str = "akima", noise_nats: float | None = None, draws: int = 1000, seed: int = 0
) -> IsoFlop:
    """The compute-optimal size and tokens at each budget, and how they grow with it.

    Args:
        table: a row a run, with loss_nats, one count of parameters, and two of cost_flops, tokens (the third is
            C = 6·N·D). Runs of one size and budget are averaged over seeds, and the best of their settings is taken.
        method: "akima" or "parabola", through up to five sizes around the lowest.
        noise_nats: standard deviation of one run's loss; left out, from seed replicates, else from how far each loss
            lies from the curve through its neighbours.
        draws: of the noise.
        seed: of the draws.

    Raises:
        Refused: on an unknown method, a missing column, one budget only, or fewer than two budgets whose lowest loss
            lies between the smallest and the largest size.
    """
    if method not in BOTTOMS:
        raise unknown("method", method, BOTTOMS)
    if draws < LEAST_DRAWS:
        raise Refused(f"draws={draws}: accepted are {LEAST_DRAWS} or more; 1000 take under a second")
    if noise_nats is not None and not (math.isfinite(noise_nats) and noise_nats >= 0):
        raise Refused(f"noise_nats={noise_nats!r}: accepted is a finite number ≥ 0, the sd of one run's loss")
    runs, size = with_cost(table)
    valleys, noise = valleys_of(runs, size)
    if len(valleys) < 2:
        raise Refused(f"one FLOP budget only ({math.exp(valleys[0].log_C):.3g}): an exponent needs two; train another")
    if noise_nats is not None:
        noise = Noise(sd_nats=noise_nats, source="given", dof=0)
    rng = np.random.default_rng(seed)
    found = [_bottom(valley, method, noise.sd_nats, draws, rng) for valley in valleys]
    budgets = tuple(budget for budget, _ in found)
    inside = [k for k, (_, log_N_D) in enumerate(found) if log_N_D is not None]
    if len(inside) < 2:
        why = "; ".join(budget.message for budget in budgets if budget.message)
        raise Refused(f"{len(inside)} of {len(budgets)} budgets with the best size inside the range tried: {why}")
    log_N_DB = np.stack([log_N_D for _, log_N_D in found if log_N_D is not None], axis=-1)
    log_D_DB = np.stack([valleys[k].log_tokens(log_N_DB[:, j]) for j, k in enumerate(inside)], axis=-1)
    log_C = np.array([valleys[k].log_C for k in inside])
    floor = np.array([FLOOR * np.diff(valleys[k].log_N).mean() for k in inside])
    weight = np.maximum(log_N_DB.std(axis=0), floor) ** -2.0
    source = f"{len(inside)} of {len(budgets)} budgets, {method}; noise {noise.sd_nats:.2g} nats ({noise.source})"
    fits = []
    for output, log_y_DB in ((size, log_N_DB), ("tokens", log_D_DB)):
        middle = np.median(log_y_DB, axis=0)
        scatter, drawn_D2 = _redrawn(log_C, middle, log_y_DB, weight, rng)
        fits.append(power_of_cost(output, log_C, middle, weight, drawn_D2, scatter=scatter, source=source))
    said = [budget.message for budget in budgets if budget.message]
    if len(inside) == 2:
        said.append("two budgets: the interval holds the noise of the losses, not how far a budget lies from the law")
    if noise.source == "assumed":
        said.append("too few sizes a budget to measure the noise: seed replicates of one size would")
    return IsoFlop(
        method=method, size=size, budgets=budgets, params=fits[0], tokens=fits[1], status=source, warnings=tuple(said)
    )


def _bottom(
    valley: Valley, method: str, sd: float, draws: int, rng: np.random.Generator
) -> tuple[Budget, Array | None]:
    """The budget's optimum and draws of ln N* (D,); None where it lies at the edge."""
    smallest, largest = math.exp(valley.log_N[0]), math.exp(valley.log_N[-1])
    cost = math.exp(valley.log_C)

    def without(status: str, message: str) -> tuple[Budget, None]:
        at = f"at {cost:.3g} FLOPs {message}"
        return Budget(cost_flops=cost, status=status, sizes=(smallest, largest), message=at), None

    if (n := len(valley.loss)) < LEAST_SIZES:
        return without("FEW", f"there are {n} sizes: a valley needs {LEAST_SIZES} or more")
    noisy_SD = valley.loss[:, None] + sd / np.sqrt(valley.seeds)[:, None] * rng.standard_normal((n, draws))
    lowest = BOTTOMS[method](valley, np.concatenate([valley.loss[:, None], noisy_SD], axis=1))
    inside = (lowest > valley.log_N[0]) & (lowest < valley.log_N[-1])
    if not inside[0] or inside[1:].mean() < LEAST_INSIDE:
        below = (lowest <= valley.log_N[0]).mean() > (lowest >= valley.log_N[-1]).mean()
        if below:
            return without("BELOW", f"the smallest size, {smallest:.3g}, is best: N* is no larger; train smaller ones")
        return without("ABOVE", f"the largest size, {largest:.3g}, is best: N* is no smaller; train larger ones")
    kept_D = rng.permutation(np.resize(lowest[1:][inside[1:]], draws))
    middle = np.median(kept_D)
    return Budget(
        cost_flops=cost,
        status="INTERIOR",
        sizes=(smallest, largest),
        params=estimate(math.exp(middle), np.exp(kept_D)),
        tokens=float(np.exp(valley.log_tokens(middle))),
        loss_nats=float(np.exp(valley.log_loss(middle))),
    ), kept_D


def _redrawn(
    log_C: Array, middle: Array, log_y_DB: Array, weight: Array, rng: np.random.Generator
) -> tuple[float, Array]:
    """How far budgets scatter from the law beyond the noise of their losses, and draws of (ln c, p) with both."""
    x, share, count = log_C - np.average(log_C, weights=weight), weight / weight.sum(), len(log_C)
    log_c, slope = line(x, middle[None], weight)[0]
    fitted, scatter, tails_DB = log_c + slope * x, 0.0, np.zeros(log_y_DB.shape)
    if count > 2:
        seen = share @ (middle - fitted) ** 2 * count / (count - 2)
        scatter = math.sqrt(max(float(seen - share @ log_y_DB.var(axis=0)), 0.0))
        tails_DB = rng.standard_normal(log_y_DB.shape)
        tails_DB *= np.sqrt((count - 2) / rng.chisquare(count - 2, len(log_y_DB)))[:, None]
    return scatter, line(x, fitted + log_y_DB - middle + scatter * tails_DB, weight)
