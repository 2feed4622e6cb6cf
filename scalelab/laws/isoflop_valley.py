"""FLOP budgets as valleys of loss against size: their runs, how noisy one is, and where the bottom lies."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator

from scalelab.laws.columns import SETTINGS
from scalelab.laws.law import Array
from scalelab.laws.optima.noise import ASSUMED_NOISE_NATS, SEED_DOF, Noise
from scalelab.laws.solve.objective import NORMAL_MAD

SAME_BUDGET = 0.05  # budgets within 5 % are one, rounded to whole steps
LEAST_SIZES = 3  # of a budget, for a valley
NEAR_BOTTOM = 0.08  # of the lowest loss: up to there neighbours tell the noise
POINTS_A_GAP = 25  # of the grid on which the bottom is looked for, between two sizes
PARABOLA_REACH = 2  # sizes on either side of the lowest


@dataclass(frozen=True, kw_only=True, eq=False)
class Valley:
    """One budget: ln size ascending, ln tokens, loss in nats, and the number of seeds behind each, shape (S,)."""

    log_C: float
    log_N: Array
    log_D: Array
    loss: Array
    seeds: Array

    def log_tokens(self, log_N: Array) -> Array:
        """ln tokens at sizes between those tried."""
        return np.asarray(np.interp(log_N, self.log_N, self.log_D))

    def log_loss(self, log_N: Array) -> Array:
        """ln loss at sizes between those tried."""
        return np.asarray(Akima1DInterpolator(self.log_N, np.log(self.loss))(log_N))


def valleys_of(runs: pd.DataFrame, size: str) -> tuple[list[Valley], Noise]:
    """The budgets in ascending order, and how noisy one run is.

    Runs of one size and settings are seeds and averaged; of several settings the best is taken.
    """
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
        Valley(
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


def _from_neighbours(valley: Valley) -> Array:
    """How far each loss lies from the cubic through the two next to it on either side, scaled to one run's sd.

    Only near the bottom: on the steep flanks cubics miss by more than the noise.
    """
    found = []
    for k in range(2, len(valley.loss) - 2):
        if valley.loss[k - 2 : k + 3].max() > (1 + NEAR_BOTTOM) * valley.loss.min():
            continue
        others = [k - 2, k - 1, k + 1, k + 2]
        at = valley.log_N[others] - valley.log_N[k]
        share = np.array([np.prod([b / (b - a) for j, b in enumerate(at) if j != i]) for i, a in enumerate(at)])
        variance = 1 / valley.seeds[k] + (share**2 / valley.seeds[others]).sum()
        found.append((valley.loss[k] - share @ valley.loss[others]) / math.sqrt(variance))
    return np.array(found)


def _akima(valley: Valley, loss_SD: Array) -> Array:
    """ln size of the lowest point for each of D sets of losses; an end where that is lowest."""
    grid = np.linspace(valley.log_N[0], valley.log_N[-1], POINTS_A_GAP * (len(valley.log_N) - 1))
    return np.asarray(grid[Akima1DInterpolator(valley.log_N, np.log(loss_SD))(grid).argmin(axis=0)])


def _parabola(valley: Valley, loss_SD: Array) -> Array:
    lowest = int(valley.loss.argmin())
    near = slice(max(lowest - PARABOLA_REACH, 0), lowest + PARABOLA_REACH + 1)
    if len(valley.log_N[near]) < LEAST_SIZES:
        near = slice(0, LEAST_SIZES) if lowest == 0 else slice(-LEAST_SIZES, None)
    bend, slope, _ = np.polyfit(valley.log_N[near] - valley.log_N[lowest], np.log(loss_SD[near]), 2)
    # A curve that opens downwards has its lowest point at the end that it falls towards.
    vertex = np.where(bend > 0, -slope / (2 * np.where(bend > 0, bend, 1.0)), -np.sign(slope) * np.inf)
    return np.asarray(np.clip(valley.log_N[lowest] + vertex, valley.log_N[0], valley.log_N[-1]))


BOTTOMS = {"akima": _akima, "parabola": _parabola}
