"""The bottom of a sampled valley: a local fit by linear least squares.

Loss against u = log2 LR is a valley with a steeper high side. Near its bottom it is fitted as

    loss = c0 + c1 u + c2 (u² + g u³)

with a skewness g that all cells of a group share. A free cubic per cell would treble the standard error of the bottom;
a parabola (g = 0) would be off by the same amount in every cell. Points count less the higher they lie, because there
the cubic is only roughly right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.laws.law import Array
from scalelab.laws.optima.cells import Cell

WINDOW_OCTAVES = 2.0  # assumed: how far from the best LR a cubic still describes the valley
CLIFF_NATS = 0.5  # assumed: a run this much above the best tells where the cliff is, not where the valley bottoms out
RISE_NATS = 0.05  # assumed: misfit is about a tenth of the rise, seed noise about 0.005 nats; equal at this rise


@dataclass(frozen=True, kw_only=True, eq=False)
class Valley:
    """An interior cell's window around its best LR: positions u_L = log2 LR - centre, mean losses, runs at each."""

    centre: float
    u_L: Array
    loss_L: Array
    runs_L: Array
    loss_SL: Array
    neighbours: tuple[float, float]

    @property
    def weight_L(self) -> Array:
        rise_L = self.loss_L - self.loss_L.min()
        return np.asarray(self.runs_L / (1 + (rise_L / RISE_NATS) ** 2))


def profile(cell: Cell) -> tuple[Array, Array]:
    """Mean loss and number of finite runs at each LR; NaN and 0 where the LR counts as diverged."""
    usable_SL = np.isfinite(cell.loss_SL) & ~cell.diverged_L
    runs_L = usable_SL.sum(axis=0).astype(float)
    total_L = np.where(usable_SL, cell.loss_SL, 0.0).sum(axis=0)
    return np.divide(total_L, runs_L, out=np.full_like(total_L, np.nan), where=runs_L > 0), runs_L


def window(cell: Cell) -> Valley | None:
    """The contiguous LRs around the best one that the local fit may use; None unless both neighbours are among them."""
    loss_L, _ = profile(cell)
    if not np.isfinite(loss_L).any():
        return None
    best = int(np.nanargmin(loss_L))
    near_L = np.isfinite(loss_L) & (loss_L - loss_L[best] <= CLIFF_NATS)
    first, last = best, best
    while first > 0 and near_L[first - 1] and _within(cell, best, first - 1, first):
        first -= 1
    while last + 1 < len(near_L) and near_L[last + 1] and _within(cell, best, last + 1, last):
        last += 1
    if first == best or last == best:
        return None
    return _cut(cell, first, last, best, centre=float(cell.log2_lr_L[best]))


def _within(cell: Cell, best: int, candidate: int, edge: int) -> bool:
    return edge == best or abs(cell.log2_lr_L[candidate] - cell.log2_lr_L[best]) <= WINDOW_OCTAVES + 0.05


def _cut(cell: Cell, first: int, last: int, best: int, *, centre: float) -> Valley:
    loss_L, runs_L = profile(cell)
    inside = slice(first, last + 1)
    neighbours = (float(cell.log2_lr_L[best - 1]), float(cell.log2_lr_L[best + 1]))
    valley = Valley(
        centre=centre,
        u_L=cell.log2_lr_L[inside] - centre,
        loss_L=loss_L[inside],
        runs_L=runs_L[inside],
        loss_SL=np.where(cell.diverged_L, np.nan, cell.loss_SL)[:, inside],
        neighbours=neighbours,
    )
    # The skewness is a ratio of derivatives at the bottom, so u is counted from a parabola's idea of where that is.
    bottom = float(bottom_of(valley, valley.loss_L[None], np.zeros(1))[0][0])
    shift = float(np.clip(bottom, neighbours[0] - centre, neighbours[1] - centre))
    return Valley(**{**valley.__dict__, "centre": centre + shift, "u_L": valley.u_L - shift})


def narrowed(valley: Valley, skewness: float) -> Valley:
    """The valley, or the best LR and its neighbours alone where the wider fit puts the bottom beyond them."""
    u, _, c2 = bottom_of(valley, valley.loss_L[None], np.array([skewness]))
    low, high = (bound - valley.centre for bound in valley.neighbours)
    if low < u[0] < high and c2[0] > 0:
        return valley
    inside = (valley.u_L >= low - 1e-9) & (valley.u_L <= high + 1e-9)
    parts = {name: getattr(valley, name)[..., inside] for name in ("u_L", "loss_L", "runs_L", "loss_SL")}
    return Valley(centre=valley.centre, neighbours=valley.neighbours, **parts)


def shared_skewness(valleys: Sequence[Valley], drawn: Sequence[Array] | None) -> Array:
    """The group's g in 1/octaves, for the data (`drawn` None; shape (1,)) or for each draw (shape (draws,)).

    Free cubics are fitted where there are five points or more, and c3 is regressed on c2 over those cells, each
    weighted by how well its window determines c3. |g| is kept below where the cubic would bend over inside the window.
    """
    wide = [c for c, valley in enumerate(valleys) if len(valley.u_L) >= 5]
    n_draws = 1 if drawn is None else (len(drawn[0]) if drawn else 1)
    if not wide:
        return np.zeros(n_draws)
    above, below = np.zeros(n_draws), np.zeros(n_draws)
    for c in wide:
        valley = valleys[c]
        loss_DL = valley.loss_L[None] if drawn is None else drawn[c]
        root_L = np.sqrt(valley.weight_L)
        inverse = np.linalg.pinv(root_L[:, None] * np.vander(valley.u_L, 4, increasing=True))
        coefficients_D4 = (loss_DL * root_L) @ inverse.T
        information = 1 / (inverse[3] ** 2).sum()
        above += information * coefficients_D4[:, 2] * coefficients_D4[:, 3]
        below += information * coefficients_D4[:, 2] ** 2
    reach = max(float(np.abs(valleys[c].u_L).max()) for c in wide)
    limit = 0.6 / reach  # the derivative 2u + 3gu² keeps its sign for |g| < 2/(3 reach)
    return np.clip(np.divide(above, below, out=np.zeros(n_draws), where=below > 0), -limit, limit)


def bottom_of(valley: Valley, loss_DL: Array, skewness_D: Array) -> tuple[Array, Array, Array]:
    """Position u of the minimum within the window, loss there, and c2, for each row of losses."""
    u_L, weight_L = valley.u_L, valley.weight_L
    bend_DL = u_L**2 + skewness_D[:, None] * u_L**3
    basis_DLK = np.stack([np.ones_like(bend_DL), np.broadcast_to(u_L, bend_DL.shape), bend_DL], axis=-1)
    weighted_DKL = np.swapaxes(basis_DLK * weight_L[:, None], 1, 2)
    c_DK = np.linalg.solve(weighted_DKL @ basis_DLK, weighted_DKL @ loss_DL[:, :, None])[:, :, 0]
    c0, c1, c2 = c_DK.T
    slope = np.divide(c1, c2, out=np.zeros_like(c1), where=c2 > 0)
    root = np.sqrt(np.maximum(1 - 3 * skewness_D * slope, 0))
    u_D = np.where(c2 > 0, -slope / (1 + root), np.where(c1 > 0, -np.inf, np.inf))
    u_D = np.clip(u_D, u_L[0], u_L[-1])
    return u_D, c0 + c1 * u_D + c2 * (u_D**2 + skewness_D * u_D**3), c2
