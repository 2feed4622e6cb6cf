"""Chinchilla's Approach 2: the best size at each FLOP budget, from the valley of loss against size (arXiv:2203.15556).

A valley is interpolated by Akima's splines in log N, log loss, as Porian et al. do (arXiv:2406.19146), and its bottom is
found again with noise added to every loss, which gives the bottom's own uncertainty. A parabola is biased where the
valley is wide, skewed or off centre, which it mostly is (arXiv:2603.22339); it is here to compare with published fits.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator

from scalelab.errors import Refused, unknown
from scalelab.laws.checked import checked
from scalelab.laws.columns import NAMES, PARAMS, SETTINGS
from scalelab.laws.compute_optimal import Budget, IsoFlop, line, power_of_cost
from scalelab.laws.fitted import estimate
from scalelab.laws.law import Array
from scalelab.laws.optima.noise import ASSUMED_NOISE_NATS, SEED_DOF, Noise
from scalelab.laws.solve.objective import NORMAL_MAD

METHODS = ("akima", "parabola")
SAME_BUDGET = 0.05  # budgets within 5 % are one, rounded to whole steps
LEAST_SIZES = 3  # of a budget, for a valley
POINTS_A_GAP = 25  # of the grid on which the bottom is looked for, between two sizes
FLOOR = 0.33  # of the spacing of sizes: no bottom is known better than that (arXiv:2406.19146, its code)
LEAST_INSIDE = 0.5  # share of the noisy bottoms that lie inside, for a budget to count
PARABOLA_REACH = 2  # sizes on either side of the lowest


@dataclass(frozen=True, kw_only=True, eq=False)
class _Valley:
    """One budget: ln size ascending, ln tokens, loss in nats, and the number of seeds behind each, shape (S,)."""

    log_C: float
    log_N: Array
    log_D: Array
    loss: Array
    seeds: Array

    def near(self, log_N: Array) -> Array:
        """ln tokens at a size, by this budget's own runs."""
        return np.asarray(np.interp(log_N, self.log_N, self.log_D))


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
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if noise_nats is not None and not (math.isfinite(noise_nats) and noise_nats >= 0):
        raise Refused(f"noise_nats={noise_nats!r}: accepted is a finite number ≥ 0, the sd of one run's loss")
    runs, size = with_cost(table)
    valleys, noise = _valleys(runs, size)
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
    log_D_DB = np.stack([valleys[k].near(log_N_DB[:, j]) for j, k in enumerate(inside)], axis=-1)
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
        said.append("two budgets: the interval holds the noise of the losses and not how far a budget lies from the law")
    if noise.source == "assumed":
        said.append("too few sizes a budget to measure the noise: seed replicates of one size would")
    return IsoFlop(
        method=method, size=size, budgets=budgets, params=fits[0], tokens=fits[1], status=source, warnings=tuple(said)
    )


def with_cost(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Checked runs that ended well, with cost_flops and tokens, and the column that counts parameters."""
    runs = checked(table)
    runs = runs[runs["outcome"] == "OK"]
    counts = [name for name in PARAMS if name in runs]
    if not counts or not ("tokens" in runs or "cost_flops" in runs):
        raise Refused("best sizes need loss_nats, one of " + ", ".join(PARAMS) + ", and cost_flops or tokens")
    if several := [name for name in NAMES if runs[name].nunique() > 1]:
        raise Refused(f"runs of several {several[0]}: budgets are of one; give the rows of one of them")
    size = counts[0]
    if "cost_flops" not in runs:
        runs = runs.assign(cost_flops=6.0 * runs[size] * runs["tokens"])
    if "tokens" not in runs:
        runs = runs.assign(tokens=runs["cost_flops"] / (6.0 * runs[size]))
    if not (np.isfinite(runs["cost_flops"]) & (runs["cost_flops"] > 0)).all():
        raise Refused("cost_flops is empty or ≤ 0 in some rows: accepted is a finite number > 0")
    return runs, size


def _valleys(runs: pd.DataFrame, size: str) -> tuple[list[_Valley], Noise]:
    ordered = runs.sort_values("cost_flops", kind="stable")
    log_C = np.log(ordered["cost_flops"].to_numpy(float))
    budget, first = np.zeros(len(log_C), dtype=int), log_C[0]
    for k in range(1, len(log_C)):
        new = log_C[k] - first > SAME_BUDGET
        budget[k] = budget[k - 1] + new
        first = log_C[k] if new else first
    settings = [name for name in SETTINGS if name in runs]
    grouped = ordered.assign(budget=budget, log_C=log_C).groupby(["budget", size, *settings], sort=True)
    means = grouped.agg(
        loss=("loss_nats", "mean"), spread=("loss_nats", "var"), seeds=("loss_nats", "size"), tokens=("tokens", "mean"),
        log_C=("log_C", "mean"),
    ).reset_index()  # fmt: skip
    best = means.loc[means.groupby(["budget", size])["loss"].idxmin()].sort_values(size)
    valleys = [
        _Valley(
            log_C=float(rows["log_C"].mean()), log_N=np.log(rows[size].to_numpy(float)),
            log_D=np.log(rows["tokens"].to_numpy(float)), loss=rows["loss"].to_numpy(float),
            seeds=rows["seeds"].to_numpy(float),
        )
        for _, rows in best.groupby("budget", sort=True)
    ]  # fmt: skip
    dof = int((means["seeds"] - 1).sum())
    if dof >= SEED_DOF:
        squares = float((means["spread"].fillna(0.0) * (means["seeds"] - 1)).sum())
        return valleys, Noise(sd_nats=math.sqrt(squares / dof), source="seed replicates", dof=dof)
    apart = np.concatenate([_from_neighbours(valley) for valley in valleys])
    if len(apart) < SEED_DOF:
        return valleys, Noise(sd_nats=ASSUMED_NOISE_NATS, source="assumed", dof=0)
    return valleys, Noise(
        sd_nats=NORMAL_MAD * float(np.median(np.abs(apart))), source="deviations from neighbours", dof=len(apart)
    )


def _from_neighbours(valley: _Valley) -> Array:
    """How far each loss lies from the cubic through the two next to it on either side, scaled to one run's sd."""
    found = []
    for k in range(2, len(valley.loss) - 2):
        others = [k - 2, k - 1, k + 1, k + 2]
        at = valley.log_N[others] - valley.log_N[k]
        share = np.array([np.prod([b / (b - a) for j, b in enumerate(at) if j != i]) for i, a in enumerate(at)])
        variance = 1 / valley.seeds[k] + (share**2 / valley.seeds[others]).sum()
        found.append((valley.loss[k] - share @ valley.loss[others]) / math.sqrt(variance))
    return np.array(found)


def _bottom(
    valley: _Valley, method: str, sd: float, draws: int, rng: np.random.Generator
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
    lowest = _AT[method](valley, np.concatenate([valley.loss[:, None], noisy_SD], axis=1))
    inside = (lowest > valley.log_N[0]) & (lowest < valley.log_N[-1])
    if not inside[0] or inside[1:].mean() < LEAST_INSIDE:
        below = (lowest <= valley.log_N[0]).mean() > (lowest >= valley.log_N[-1]).mean()
        if below:
            return without("BELOW", f"the smallest size, {smallest:.3g}, is best: N* is no larger; train smaller ones")
        return without("ABOVE", f"the largest size, {largest:.3g}, is best: N* is no smaller; train larger ones")
    kept_D = rng.permutation(np.resize(lowest[1:][inside[1:]], draws))
    middle = float(np.median(kept_D))
    log_loss = float(Akima1DInterpolator(valley.log_N, np.log(valley.loss))(middle))
    return Budget(
        cost_flops=cost, status="INTERIOR", sizes=(smallest, largest), params=estimate(math.exp(middle), np.exp(kept_D)),
        tokens=math.exp(valley.near(np.array(middle))), loss_nats=math.exp(log_loss),
    ), kept_D  # fmt: skip


def _akima(valley: _Valley, loss_SD: Array) -> Array:
    grid = np.linspace(valley.log_N[0], valley.log_N[-1], POINTS_A_GAP * (len(valley.log_N) - 1))
    return np.asarray(grid[Akima1DInterpolator(valley.log_N, np.log(loss_SD))(grid).argmin(axis=0)])


def _parabola(valley: _Valley, loss_SD: Array) -> Array:
    lowest = int(valley.loss.argmin())
    near = slice(max(lowest - PARABOLA_REACH, 0), lowest + PARABOLA_REACH + 1)
    if len(valley.log_N[near]) < LEAST_SIZES:
        near = slice(0, LEAST_SIZES) if lowest == 0 else slice(-LEAST_SIZES, None)
    bend, slope, _ = np.polyfit(valley.log_N[near] - valley.log_N[lowest], np.log(loss_SD[near]), 2)
    # A curve that opens downwards has its lowest point at the end that it falls towards.
    vertex = np.where(bend > 0, -slope / (2 * np.where(bend > 0, bend, 1.0)), -np.sign(slope) * np.inf)
    return np.asarray(np.clip(valley.log_N[lowest] + vertex, valley.log_N[0], valley.log_N[-1]))


_AT = {"akima": _akima, "parabola": _parabola}


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
