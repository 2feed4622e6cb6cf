"""A grid of sizes and FLOP budgets, the learning rate tuned at each: the losses, and how the best rate goes with them.

What `laws.isoflop` needs are tuned losses; a valley's bottom has less luck in it than the best of its runs.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws import IsoFlop, isoflop
from scalelab.laws.columns import NAMES, SCALES
from scalelab.laws.compute_optimal import EXPONENT
from scalelab.laws.law import Array
from scalelab.laws.optima.cells import Group, groups
from scalelab.laws.optima.optimum import Optimum, optima
from scalelab.replications.effects import for_laws
from scalelab.replications.finding import Finding

DRAWS = 1000
LIMITS = (0.025, 0.975)
LEAST = 4  # optima, for a plane in two scales


def tuned_losses(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a size and number of tokens, as `laws.isoflop` takes it: the bottom of its valley in the learning rate.

    Where the best rate is not inside the grid the loss is that of the best run.

    Raises:
        Refused: on runs of several groups.
    """
    return _bottoms(runs, _valleys(runs))


def _valleys(runs: pd.DataFrame) -> list[Optimum]:
    found, _, _ = optima(_one(runs).cells, draws=DRAWS, rng=np.random.default_rng(0))
    return found


def _bottoms(runs: pd.DataFrame, found: Sequence[Optimum]) -> pd.DataFrame:
    scales = [name for name in SCALES if name in runs]
    names = {name: runs[name].iloc[0] for name in NAMES if name in runs}
    rows = pd.DataFrame([{**names, **each.scale, "loss_nats": each.loss_nats} for each in found])
    return rows.merge(runs.groupby(scales)["cost_flops"].first().reset_index(), on=scales)


def compute_optimal(runs: pd.DataFrame) -> IsoFlop:
    """`laws.isoflop` on the tuned losses, with the noise of a valley's bottom.

    Raises:
        Refused: on what `isoflop` refuses, runs of several groups, or no valley inside its grid.
    """
    found = _valleys(runs)
    noise = [each.loss_sd_nats for each in found if each.log2_lr is not None and each.loss_sd_nats is not None]
    if not noise:
        raise Refused("no best learning rate lies inside its grid: widen the grids")
    return isoflop(_bottoms(runs, found), noise_nats=float(np.sqrt(np.mean(np.square(noise)))), draws=DRAWS)


def optimal_lr(runs: pd.DataFrame, budgets: IsoFlop, *, name: str, seed: int = 0) -> Finding:
    """The exponent in compute of the best learning rate along the compute-optimal sizes and tokens.

    The best rates of all cells are a power of size and tokens, c·N^p·D^q; along N* ∝ C^a, D* ∝ C^b they go as
    C^(pa + qb). The interval is of cells resampled, each with the noise of its valley, and of the budgets' own draws.

    Args:
        runs: the grid.
        budgets: of the same grid, by `compute_optimal`.
        name: of the finding.
        seed: of the draws.

    Raises:
        Refused: with fewer than 4 best rates inside their grids, or runs of several groups.
    """
    group = _one(runs)
    rng = np.random.default_rng(seed)
    found, _, log2_lr_DC = optima(group.cells, draws=DRAWS, rng=rng)
    inside = [place for place, each in enumerate(found) if each.log2_lr is not None]
    if len(inside) < LEAST:
        raise Refused(f"{name}: {len(inside)} best rates lie inside their grids, {LEAST} are needed: widen the grids")
    scales_C2 = np.log([[found[place].scale[budgets.size], found[place].scale["tokens"]] for place in inside])
    plane_C3 = np.column_stack([np.ones(len(inside)), scales_C2])
    best_C = np.array([found[place].log2_lr for place in inside], dtype=float) * np.log(2)
    growth = np.array([budgets.params_exponent.value, budgets.tokens_exponent.value])
    value = float(_slopes(plane_C3, best_C) @ growth)
    exponents_D2 = _exponents(budgets)
    drawn = []
    for draw in range(DRAWS):
        cells = rng.integers(len(inside), size=len(inside))
        log_lr_C = log2_lr_DC[draw, inside][cells] * np.log(2)
        known = np.isfinite(log_lr_C)
        if np.linalg.matrix_rank(plane_C3[cells][known]) == plane_C3.shape[1]:
            drawn.append(_slopes(plane_C3[cells][known], log_lr_C[known]) @ exponents_D2[draw % len(exponents_D2)])
    low, high = np.quantile(drawn, LIMITS)
    return Finding(name=name, value=value, low=min(float(low), value), high=max(float(high), value), n=len(runs))


def _exponents(budgets: IsoFlop) -> Array:
    """Draws of the exponents of size and tokens, which belong together."""
    pair = [np.asarray(fit.draws[EXPONENT], dtype=float) for fit in (budgets.params, budgets.tokens)]
    return np.column_stack(pair)


def _slopes(plane_C3: Array, log_lr_C: Array) -> Array:
    return np.asarray(np.linalg.lstsq(plane_C3, log_lr_C, rcond=None)[0][1:])


def _one(runs: pd.DataFrame) -> Group:
    found = groups(for_laws(runs), scales=tuple(SCALES))
    if len(found) != 1:
        raise Refused(f"runs of {len(found)} groups: give those of one batch, weight decay, optimizer and data")
    return found[0]
