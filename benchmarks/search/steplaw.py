"""`steplaw4`: a surface made of the 1,911 runs of arXiv:2503.04715's dense grids, 17 scales of 2 to 100 B tokens.

A point takes the fitted floor of its scale, and on it the measured excess of every grid near in scale, read at the
point's own distance from the optimum and weighted by closeness.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.interpolate import NearestNDInterpolator, RegularGridInterpolator
from scipy.optimize import least_squares

from search.problem import BY_TOKENS, CEILING, Params, Problem, flops_of, gaussian, log_space

Array = npt.NDArray[np.float64]

DIVERGED_NATS = 6.0
NEAR_NATS = 0.03  # runs this near to a grid's lowest say where its optimum is
REACH_OCTAVES = np.array([1.2, 1.8])  # of parameters and tokens, over which a grid's shape is trusted
LOWEST_WEIGHT = 0.01
TARGET = {"N": 1.07e9, "D": 1e11}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The runs of one scale, in log2 of learning rate and batch.

    Attributes:
        scale_2: log2 parameters, log2 tokens.
        lowest: the least loss, nats.
        optimum_2: where it is, averaged over the runs near it.
        axes: the grid's learning rates and batches.
        excess_LB: nats over the lowest.
    """

    scale_2: Array
    lowest: float
    optimum_2: Array
    axes: tuple[Array, Array]
    excess_LB: Array


def grid(runs: pd.DataFrame) -> Grid:
    """The grid of the runs of one scale, a setting that was not run taking the loss of the nearest."""
    lr, batch = np.log2(runs["lr"]).round(1), np.log2(runs["bs"]).round(2)
    measured = runs["smooth loss"].groupby([lr, batch]).min().unstack()
    axes = (measured.index.to_numpy(float), measured.columns.to_numpy(float))
    at_P2 = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    loss_P = measured.to_numpy(float).flatten()
    seen = np.isfinite(loss_P)
    loss_P[~seen] = NearestNDInterpolator(at_P2[seen], loss_P[seen])(at_P2[~seen])
    excess_P = loss_P - loss_P.min()
    near = excess_P < NEAR_NATS
    weight = 1 / (excess_P[near] + 0.005)
    return Grid(
        scale_2=np.log2(runs[["N", "D"]].to_numpy(float)[0]),
        lowest=float(loss_P.min()),
        optimum_2=weight @ at_P2[near] / weight.sum(),
        axes=axes,
        excess_LB=np.minimum(excess_P, 5.0).reshape(measured.shape),
    )


class StepLaw:
    """The surface: floor, moving optimum, and the excess of the grids about it."""

    def __init__(self, path: Path) -> None:
        runs = pd.read_csv(path)
        self.grids = [grid(rows) for _, rows in runs.groupby(["N", "D", "h"])]
        self.scale_G2 = np.stack([each.scale_2 for each in self.grids])
        lowest_G = np.array([each.lowest for each in self.grids])

        def off(theta: Array) -> Array:
            return np.asarray(self._floor(theta, self.scale_G2) - lowest_G)

        self.theta = least_squares(off, [0.5, -1, 0.3, -1, 0.3]).x
        optimum_G2 = np.stack([each.optimum_2 for each in self.grids])
        self.moves_32 = np.linalg.lstsq(self._with_one(self.scale_G2), optimum_G2, rcond=None)[0]
        self.read = [RegularGridInterpolator(each.axes, each.excess_LB) for each in self.grids]

    @staticmethod
    def _with_one(scale_N2: Array) -> Array:
        return np.column_stack([np.ones(len(scale_N2)), scale_N2])

    @staticmethod
    def _floor(theta: Array, scale_N2: Array) -> Array:
        e, a, alpha, b, beta = theta
        log_n, log_d = math.log(2) * scale_N2.T - np.log([[1e8], [1e10]])
        return np.asarray(np.exp(e) + np.exp(a - alpha * log_n) + np.exp(b - beta * log_d))

    def loss(self, setting_P2: Array, scale_2: Array) -> Array:
        """Nats of settings (log2 learning rate, log2 sequences a batch) at one scale (log2 parameters, log2 tokens)."""
        away_P2 = setting_P2 - (self._with_one(scale_2[None]) @ self.moves_32)[0]
        distance_G = (((scale_2 - self.scale_G2) / REACH_OCTAVES) ** 2).sum(axis=1)
        weight_G = (distance_G + 0.05) ** -2.0
        weight_G /= weight_G.sum()
        total_P = np.full(len(setting_P2), float(self._floor(self.theta, scale_2[None])[0]))
        for weight, each, read in zip(weight_G, self.grids, self.read, strict=True):
            if weight >= LOWEST_WEIGHT:
                low, high = np.array([[axis[0], axis[-1]] for axis in each.axes]).T
                total_P += weight * read(np.clip(each.optimum_2 + away_P2, low, high))
        return np.asarray(np.minimum(total_P, CEILING))

    def truth(self, params: Params) -> float:
        setting, scale = (np.log2([params[a], params[b]]) for a, b in (("lr", "batch"), ("N", "D")))
        loss = float(self.loss(setting[None], scale)[0])
        return math.inf if loss > DIVERGED_NATS else loss


@cache
def problem(path: Path) -> Problem:
    surface = StepLaw(path)
    fewest = float(2 ** surface.scale_G2[:, 1].min())
    ranges = {"lr": (2.441e-4, 2.2e-2), "batch": (32.0, 2048.0)}
    fine = [np.linspace(np.log2(low), np.log2(high), 201) for low, high in ranges.values()]
    every_P2 = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1).reshape(-1, 2)
    return Problem(
        name="steplaw4",
        space=log_space(**ranges, N=(2.15e8, TARGET["N"]), D=(fewest, TARGET["D"])),
        start={"lr": 1e-3, "batch": 512.0, "N": 2.5e8, "D": 1.2 * fewest},
        scales=("N", "D"),
        target=TARGET,
        sizes=BY_TOKENS,
        cost_flops=flops_of,
        truth=surface.truth,
        noise=gaussian(0.003),
        best_nats=float(surface.loss(every_P2, np.log2(list(TARGET.values()))).min()),
    )
