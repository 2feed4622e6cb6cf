"""Numbers that the runs of one seed give by themselves → a finding, with the interval of their mean over seeds.

Seeds are independent, so the interval holds whatever goes into such a number; it is wide where they are few.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from scalelab.errors import Refused
from scalelab.replications.effects import infinite_where_lost
from scalelab.replications.finding import Finding

POINTS = 3  # of a parabola
LEVEL = 1e-9  # relative: a line that rises by less over its points is level, but for rounding


def over_seeds(values: pd.Series, *, name: str, n: int, unit: str = "", ratio: bool = False) -> Finding:
    """The mean of one number a seed, with its 95 % t interval; of a `ratio` the geometric mean.

    Raises:
        Refused: with fewer than 2 seeds, a number that is not finite, or a ratio that is not positive.
    """
    found = values.to_numpy(float)
    if len(found) < 2 or not np.isfinite(found).all() or (ratio and (found <= 0).any()):
        raise Refused(f"{name}: a mean over seeds needs 2 or more, all finite (and positive, of a ratio): {found}")
    kept = np.log(found) if ratio else found
    half = float(stats.t.ppf(0.975, len(kept) - 1) * stats.sem(kept))
    value, low, high = (kept.mean() + each for each in (0.0, -half, half))
    if ratio:
        value, low, high = (math.exp(each) for each in (value, low, high))
    return Finding(name=name, value=float(value), low=float(low), high=float(high), unit=unit, n=n)


def powers(table: pd.DataFrame, *, of: str, along: str, by: Sequence[str]) -> pd.Series:
    """The slope of log `of` in log `along`, by least squares, for every group of `by`."""
    logs = table.assign(x=np.log(table[along]), y=np.log(table[of]))
    found: pd.Series = logs.groupby(list(by)).apply(lambda rows: float(np.polyfit(rows["x"], rows["y"], 1)[0]))
    return found


def crossing(x: Sequence[float], y: Sequence[float]) -> float:
    """Where the line through points, by least squares, is 0; infinite where it is level.

    >>> round(crossing([0, 1], [0.25, -0.25]), 9)
    0.5
    """
    slope, level = np.polyfit(x, y, 1)
    rise = abs(slope) * (max(x) - min(x))
    return float(-level / slope) if rise > LEVEL * np.abs(y).max() else math.inf


def vertices(runs: pd.DataFrame, *, over: str, by: Sequence[str]) -> pd.Series:
    """For every group of `by` the best `over` > 0: the vertex of a parabola in log `over` through the best and its two
    neighbours. A value where any run of the group diverged is not its best.

    Raises:
        Refused: where a group's best is the smallest or largest that was tried: the optimum may be beyond; and where
            one of the three diverged.
    """
    found = {}
    for key, rows in infinite_where_lost(runs).groupby(list(by)):
        losses = rows.groupby(over)["loss_nats"].mean()
        place = int(losses.to_numpy().argmin())
        if not np.isfinite(losses.iloc[place]):
            raise Refused(f"{over}: no value ended well with all runs at {key}: try others")
        if not 0 < place < len(losses) - 1:
            raise Refused(f"{over}: the best, {losses.index[place]:g}, is at the end of the grid at {key}: widen it")
        near = slice(place - POINTS // 2, place + POINTS // 2 + 1)
        if not np.isfinite(losses.iloc[near]).all():
            raise Refused(
                f"{over}: a run diverged beside the best, {losses.index[place]:g}, at {key}: a parabola needs both"
                " neighbours: try values between"
            )
        curvature, slope, _ = np.polyfit(np.log(losses.index[near]), losses.iloc[near], 2)
        found[key] = math.exp(-slope / (2 * curvature))
    series = pd.Series(found)
    series.index.names = list(by)
    return series


def distances(runs: pd.DataFrame, columns: Sequence[str], *, same: str, other: str) -> pd.Series:
    """How far curves lie apart: for every seed the mean absolute difference over `columns`, in their unit, over all
    pairs of runs that have one value of `same` and differ in `other`; `Refused` where there is no such pair.
    """
    found = {}
    for seed, rows in runs.groupby("seed"):
        apart = [
            (a[list(columns)].astype(float) - b[list(columns)].astype(float)).abs().mean()
            for _, alike in rows.groupby(same)
            for (_, a), (_, b) in combinations(alike.iterrows(), 2)
            if a[other] != b[other]
        ]
        if not apart:
            raise Refused(f"no two runs of seed {seed} have the same {same} and another {other}")
        found[seed] = float(np.mean(apart))
    return pd.Series(found).rename_axis("seed")
