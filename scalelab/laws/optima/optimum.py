"""The optimal learning rate of each scale, and how well the runs pin it down.

The optimum is the bottom of the fitted valley and not the best run, whose loss is low partly by luck (the winner's
curse). Where the bottom is not between two stable neighbours there is no optimum to report, but there is an inequality:
at the edge of the grid the optimum lies beyond the edge's inner neighbour, and a divergence just above the best LR
bounds it from above. Those cells keep their bounds, say which LR to add, and enter the law by their likelihood.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.law import Array
from scalelab.laws.optima.cells import Cell
from scalelab.laws.optima.noise import Noise, own_noise, pooled_noise, seed_ratio
from scalelab.laws.optima.valley import CLIFF_NATS, Valley, bottom_of, narrowed, profile, shared_skewness, window


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """What a cell says on its optimal LR.

    `status` is INTERIOR (fitted: `log2_lr` with standard deviation `sd_octaves` and 95 % interval `low`..`high`),
    BRACKETED (between `low` and `high`, the upper one a divergence or cliff), AT_OR_BELOW (`high`), AT_OR_ABOVE
    (`low`), DIVERGED (every run did; `high` is the lowest LR tried) or UNUSABLE. Bounds are log2 LR, None is unbounded.
    `loss_nats` is the valley's floor (the best mean loss where no valley was fitted, None where every run diverged).
    One octave from the optimum costs `curvature_below` or `curvature_above` nats (nats per log2² on either side).
    `log2_lr_stable` is the largest LR below every divergence. `advice` says what to run next.
    """

    scale: dict[str, float]
    status: str
    advice: str
    log2_lr: float | None
    sd_octaves: float | None
    low: float | None
    high: float | None
    loss_nats: float | None
    loss_sd_nats: float | None
    curvature_below: float | None
    curvature_above: float | None
    log2_lr_stable: float | None
    noise: Noise
    n_runs: int
    n_diverged: int
    n_lrs: int
    n_points: int

    @property
    def lr(self) -> float | None:
        """The optimal peak LR; None where no valley was fitted."""
        return _exp2(self.log2_lr)

    @property
    def lr_low(self) -> float | None:
        """The lower bound as a peak LR; None is unbounded."""
        return _exp2(self.low)

    @property
    def lr_high(self) -> float | None:
        """The upper bound as a peak LR; None is unbounded."""
        return _exp2(self.high)

    @property
    def lr_stable(self) -> float | None:
        """The largest LR below every divergence."""
        return _exp2(self.log2_lr_stable)

    def excess_nats(self, log2_lr: float) -> float:
        """Loss above this valley's floor at another LR, from the curvature of that side.

        Raises:
            Refused: where the cell has no fitted valley.
        """
        if self.log2_lr is None or self.curvature_below is None or self.curvature_above is None:
            raise Refused(f"no valley was fitted at {describe(self.scale)} ({self.status}): {self.advice}")
        octaves = log2_lr - self.log2_lr
        return (self.curvature_below if octaves < 0 else self.curvature_above) * octaves**2


def optima(cells: Sequence[Cell], *, draws: int, rng: np.random.Generator) -> tuple[list[Optimum], Noise, Array]:
    """The optimum of every cell of a group, the group's noise, and bootstrap draws of the optima.

    Returns:
        The optima in the order of `cells`; the group's `Noise`; log2 optimal LR of shape (draws, cells), NaN in the
        columns of cells without a fitted valley.
    """
    windows = [window(cell) for cell in cells]
    skewness = shared_skewness([v for v in windows if v is not None], None)
    valleys = [None if v is None else narrowed(v, float(skewness[0])) for v in windows]
    fitted = [valley for valley in valleys if valley is not None]
    noise = pooled_noise(fitted, cells, skewness)
    ratio, dof = seed_ratio(fitted, noise, skewness)

    tails_D = np.sqrt(dof / rng.chisquare(dof, draws)) if dof else np.ones(draws)
    drawn, noises = [], []
    for valley in fitted:
        own = own_noise(valley, noise)
        noises.append(own)
        sd_L = own.sd_nats * np.sqrt(ratio / valley.runs_L)
        drawn.append(valley.loss_L + sd_L * tails_D[:, None] * rng.standard_normal((draws, len(valley.u_L))))
    skewness_D = shared_skewness(fitted, drawn)
    log2_lr_DC = np.full((draws, len(cells)), np.nan)
    found: list[Optimum] = []
    column = 0
    for c, cell in enumerate(cells):
        if (bracketing := valleys[c]) is None:
            found.append(_bounded(cell, noise))
            continue
        u_D = bottom_of(bracketing, drawn[column], skewness_D)[0]
        u = bottom_of(bracketing, bracketing.loss_L[None], skewness)[0]
        # Noise on top of noise pulls the ratio c3/c2 to 0 and every draw with it; the spread is kept, the shift is not.
        log2_lr_DC[:, c] = bracketing.centre + u + u_D - np.median(u_D)
        found.append(_interior(cell, bracketing, float(skewness[0]), log2_lr_DC[:, c], noises[column]))
        column += 1
    return found, noise, log2_lr_DC


def describe(scale: Mapping[str, float]) -> str:
    """A scale in words.

    >>> describe({"width": 256.0, "tokens": 1e9})
    'width 256, tokens 1e+09'
    """
    return ", ".join(f"{name} {value:g}" for name, value in scale.items())


def _exp2(log2_lr: float | None) -> float | None:
    return None if log2_lr is None else 2.0**log2_lr


def _lr(log2_lr: float) -> str:
    return f"{2.0**log2_lr:.3g} (2^{log2_lr:.4g})"


def _interior(cell: Cell, valley: Valley, skewness: float, log2_lr_D: Array, noise: Noise) -> Optimum:
    u, loss, c2 = (float(part[0]) for part in bottom_of(valley, valley.loss_L[None], np.array([skewness])))
    bend = c2 * (1 + 3 * skewness * u)
    low, middle_low, middle_high, high = np.percentile(log2_lr_D, [2.5, 15.87, 84.13, 97.5])
    return Optimum(
        scale=dict(cell.scale),
        status="INTERIOR",
        advice="",
        log2_lr=valley.centre + u,
        sd_octaves=float(middle_high - middle_low) / 2,
        low=float(low),
        high=float(high),
        loss_nats=loss,
        loss_sd_nats=noise.sd_nats / float(np.sqrt(valley.runs_L.max())),
        curvature_below=bend - c2 * skewness,
        curvature_above=bend + c2 * skewness,
        log2_lr_stable=_stable(cell),
        noise=noise,
        n_runs=cell.n_runs,
        n_diverged=cell.n_diverged,
        n_lrs=len(cell.log2_lr_L),
        n_points=len(valley.u_L),
    )


def _stable(cell: Cell) -> float | None:
    below = int(np.argmax(cell.diverged_L)) if cell.diverged_L.any() else len(cell.diverged_L)
    return float(cell.log2_lr_L[below - 1]) if below else None


def _bounded(cell: Cell, noise: Noise) -> Optimum:
    """What a cell without a fitted valley still says: bounds, from unimodality alone."""
    loss_L, _ = profile(cell)
    x_L = cell.log2_lr_L
    finite = np.isfinite(loss_L)
    low: float | None = None
    high: float | None = None
    if not finite.any():
        status, high = "DIVERGED", float(x_L[0])
        advice = f"every run diverged, from LR {_lr(x_L[0])} up: add {_lr(x_L[0] - 1)} and {_lr(x_L[0] - 2)}"
    else:
        best = int(np.nanargmin(loss_L))
        stable_below = np.flatnonzero(finite[:best])
        low = float(x_L[stable_below[-1]]) if stable_below.size else None
        high = float(x_L[best + 1]) if best + 1 < len(x_L) else None
        if low is None and high is None:
            status, advice = (
                "UNUSABLE",
                f"one stable LR, {_lr(x_L[best])}: add {_lr(x_L[best] - 1)}, {_lr(x_L[best] + 1)}",
            )
        elif low is None and high is not None:
            status = "AT_OR_BELOW"
            advice = (
                f"the lowest stable LR {_lr(x_L[best])} is the best: the optimum is at or below {_lr(high)}; "
                f"add {_lr(x_L[best] - 1)} and {_lr(x_L[best] - 2)}"
            )
        elif high is None and low is not None:
            status = "AT_OR_ABOVE"
            advice = (
                f"the highest LR tried, {_lr(x_L[best])}, is the best: the optimum is at or above {_lr(low)}; "
                f"add {_lr(x_L[best] + 1)} and {_lr(x_L[best] + 2)}"
            )
        else:
            assert low is not None and high is not None
            status = "BRACKETED"
            why = (
                f"{_lr(high)} diverges"
                if not finite[best + 1]
                else f"a neighbour is {CLIFF_NATS} nats or more above it"
            )
            advice = (
                f"the best LR is {_lr(x_L[best])} and {why}: the optimum is between {_lr(low)} and {_lr(high)}; "
                f"add {_lr((x_L[best] + high) / 2)} and {_lr((x_L[best] + low) / 2)}"
            )
    return Optimum(
        scale=dict(cell.scale),
        status=status,
        advice=advice,
        log2_lr=None,
        sd_octaves=None,
        low=low,
        high=high,
        loss_nats=float(np.nanmin(loss_L)) if finite.any() else None,
        loss_sd_nats=None,
        curvature_below=None,
        curvature_above=None,
        log2_lr_stable=_stable(cell),
        noise=noise,
        n_runs=cell.n_runs,
        n_diverged=cell.n_diverged,
        n_lrs=len(x_L),
        n_points=int(finite.sum()),
    )
