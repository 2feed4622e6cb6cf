"""The loss over two settings at once: is every scale's landscape a bowl, how sure is that, and how broad is its bottom?

`triples` assumes nothing of its shape and looks at each three points of the grid that lie in line; `bowls` fits every
scale a quadratic form in log2 of both settings, near its bottom.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.law import Array
from scalelab.replications.effects import infinite_where_lost

TRUSTED = 0.02  # height over the bottom, as a share of the loss, up to which a quadratic form is trusted
LIMITS = (2.5, 97.5)
LEAST_POINTS = 7  # the form has six numbers
LEAST_DOF = 1.0  # of what is left of the weights; of less, an interval is hardly a number
Over = tuple[str, str]
USUAL: Over = ("lr", "batch_tokens")


def triples(runs: pd.DataFrame, *, by: Sequence[str], over: Over = USUAL) -> pd.DataFrame:
    """Second differences of the loss along each line of the grids: along either setting, and along both diagonals.

    Args:
        runs: with settings on a grid, evenly spaced in their logs, and seeds.
        by: the columns that tell scales apart.
        over: the two settings.

    Returns:
        A row a triple: its scale, `second` difference of the mean loss in nats, its standard deviation `sd` by what the
        seeds differ in it (pooled over a scale, None with one seed), `steps` of the grid in each setting, and `rise`,
        how high its middle lies over the scale's lowest.

    Raises:
        Refused: where no scale has three settings in line.
    """
    found: list[dict[str, object]] = []
    for scale, grid in _grids(runs, by, over):
        found += _of_grid(scale, grid, over)
    if not found:
        raise Refused(f"no three runs in line over {' and '.join(over)}: give a grid, evenly spaced in both logs")
    return pd.DataFrame(found)


def bowls(
    runs: pd.DataFrame, *, by: Sequence[str], over: Over = USUAL, within: float = 0.01, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Every scale's quadratic form in log2 of both settings, by weighted least squares; what lies high counts little.

    Args:
        runs: with both settings varied at each scale; those that diverged are left out.
        by: the columns that tell scales apart.
        over: the two settings.
        within: the bottom is where the loss is within this share of the lowest.
        draws: of the form's coefficients, for intervals; their errors are the fit's residuals, of one size at all
            settings.
        seed: of these draws.

    Returns:
        A row a scale: the form's minimum in both settings and its `loss_nats`; `curvature`, the smaller eigenvalue of
        its second derivatives in nats per octave², with 95 % limits `curvature_low` and `_high`; `tilt`, octaves by
        which the best first setting moves an octave of the second; and `SETTING_octaves` with limits, how far from end
        to end that setting can go within the bottom with the other at its best. NaN where the form has no bottom.
        Limits are cautious where many settings lie high.

    Raises:
        Refused: where a scale has too few settings that ended well, near its bottom, or that fix such a form: three
            values of each setting, not all in line.
    """
    rows = []
    for scale, grid in _grids(runs, by, over):
        settings = np.log2(grid.index.to_frame().to_numpy(float))
        loss_N = grid.mean(axis=1).to_numpy(float)
        fine_N = np.isfinite(loss_N)
        said = {name: f"{value:g}" if isinstance(value, float) else value for name, value in scale.items()}
        at = ", ".join(f"{name} {value}" for name, value in said.items())
        if fine_N.sum() < LEAST_POINTS:
            raise Refused(f"{at}: {fine_N.sum()} settings ended well, a bowl needs {LEAST_POINTS}: widen the grid")
        rng = np.random.default_rng(seed)
        rows.append({**scale, **_bowl(settings[fine_N], loss_N[fine_N], over, within, draws, rng, at)})
    return pd.DataFrame(rows)


def _grids(runs: pd.DataFrame, by: Sequence[str], over: Over) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    """Every scale with its losses: a row a setting, a column a seed; infinite where one diverged, NaN where missing."""
    for _, part in infinite_where_lost(runs).groupby(list(by)):
        firsts = {name: part[name].iloc[0] for name in by}
        scale: dict[str, object] = {
            name: each if isinstance(each, str) else float(each) for name, each in firsts.items()
        }
        yield scale, part.groupby([*over, "seed"])["loss_nats"].mean().unstack("seed")


def _of_grid(scale: Mapping[str, object], grid: pd.DataFrame, over: Over) -> list[dict[str, object]]:
    first, second = (np.sort(grid.index.get_level_values(name).unique().to_numpy(float)) for name in over)
    cube = grid.reindex(pd.MultiIndex.from_product([first, second], names=over)).to_numpy(float)
    loss_XYS = cube.reshape(len(first), len(second), -1)
    lowest = float(np.nanmin(loss_XYS.mean(axis=2), initial=np.inf))
    found: list[dict[str, object]] = []
    squares: list[float] = []
    for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
        for x, y in itertools.product(range(dx, len(first) - dx), range(abs(dy), len(second) - abs(dy))):
            if not (_even(first, x, dx) and _even(second, y, dy)):
                continue
            in_line_3S = np.stack([loss_XYS[x + k * dx, y + k * dy] for k in (-1, 0, 1)])
            if not np.isfinite(in_line_3S).all():
                continue
            bend_S = in_line_3S[0] - 2 * in_line_3S[1] + in_line_3S[2]
            if len(bend_S) > 1:
                squares.append(float(bend_S.var(ddof=1)) / len(bend_S))
            rise = float(loss_XYS[x, y].mean()) - lowest
            steps = {f"{over[0]}_steps": dx, f"{over[1]}_steps": dy}
            found.append({**scale, "second": float(bend_S.mean()), "rise": rise, **steps})
    sd = float(np.sqrt(np.mean(squares))) if squares else None
    return [{**each, "sd": sd} for each in found]


def _even(values: Array, place: int, step: int) -> bool:
    """Whether the neighbours are as far below as above, in logs."""
    low, middle, high = (values[place + k * abs(step)] for k in (-1, 0, 1))
    return bool(np.isclose(middle * middle, low * high))


def _bowl(
    at_N2: Array, loss_N: Array, over: Over, within: float, draws: int, rng: np.random.Generator, scale: str
) -> dict[str, float]:
    centre = at_N2[loss_N.argmin()]
    x_N, y_N = (at_N2 - centre).T
    basis_N6 = np.stack([np.ones_like(x_N), x_N, y_N, x_N**2 / 2, x_N * y_N, y_N**2 / 2], axis=-1)
    weight_N = 1 / (1 + ((loss_N - loss_N.min()) / (TRUSTED * loss_N.min())) ** 2)
    weighted_6N = (basis_N6 * weight_N[:, None]).T
    if np.linalg.matrix_rank(weighted_6N) < 6:
        raise Refused(
            f"{scale}: these settings fix no bowl: give 3 or more values of {over[0]} and of {over[1]}, a grid"
        )
    inverse_66 = np.linalg.inv(weighted_6N @ basis_N6)
    c_6 = inverse_66 @ (weighted_6N @ loss_N)
    # Every loss has the same noise, whatever its weight: what hardly counts tells hardly anything of it either.
    squared_66 = weighted_6N @ weighted_6N.T
    dof = float(weight_N.sum() - (inverse_66 * squared_66).sum())
    if dof < LEAST_DOF:
        raise Refused(f"{scale}: too few settings near the lowest loss: give more within {3 * TRUSTED:.0%} of it")
    residual = float((weight_N * (loss_N - basis_N6 @ c_6) ** 2).sum()) / dof
    root_66 = math.sqrt(residual) * np.linalg.cholesky(inverse_66 @ squared_66 @ inverse_66)
    tails_D = np.sqrt(dof / rng.chisquare(dof, draws))
    c_D6 = np.vstack([c_6, c_6 + tails_D[:, None] * (rng.standard_normal((draws, 6)) @ root_66.T)])
    form_D22 = c_D6[:, [3, 4, 4, 5]].reshape(-1, 2, 2)
    smaller_D = np.linalg.eigvalsh(form_D22)[:, 0]
    # The smaller of two is drawn too small wherever they are near each other: the draws' distance from the estimate
    # says how far the estimate is from the truth.
    curvature_high, curvature_low = 2 * smaller_D[0] - np.percentile(smaller_D[1:], LIMITS)
    found = {
        "curvature": float(smaller_D[0]),
        "curvature_low": float(curvature_low),
        "curvature_high": float(curvature_high),
    }
    names = ("loss_nats", *over, "tilt", *(f"{name}_octaves{end}" for name in over for end in ("", "_low", "_high")))
    if smaller_D[0] <= 0:
        return found | dict.fromkeys(names, float("nan"))
    bottom_2 = -np.linalg.solve(form_D22[0], c_6[1:3])
    loss = float(c_6[0] + c_6[1:3] @ bottom_2 / 2)
    found |= {"loss_nats": loss, "tilt": -float(c_6[4] / c_6[3])}
    found |= dict(zip(over, np.exp2(centre + bottom_2).tolist(), strict=True))
    for place, name in enumerate(over):
        bend_D = np.maximum(form_D22[:, place, place], np.finfo(float).tiny)
        octaves_D = 2 * np.sqrt(2 * within * loss / bend_D)
        low, high = np.percentile(octaves_D[1:], LIMITS)
        found |= {f"{name}_octaves": float(octaves_D[0]), f"{name}_octaves_low": float(low)}
        found[f"{name}_octaves_high"] = float(high)
    return found
