"""Runs → findings that most claims are about: where the optimum goes, what carrying it costs, which runs are better."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scalelab.errors import Refused
from scalelab.laws import drift, study
from scalelab.laws.columns import COLUMNS, PARAMS
from scalelab.laws.law import Array
from scalelab.replications.finding import Finding

RESAMPLES = 2000
LIMITS = (0.025, 0.975)
OF_THE_CHOICE = (
    "The interval is of which settings the seeds choose, each scored by all seeds: not of the noise of their losses."
)
CLOSE = 1e-6  # relative: tables keep fewer digits than runs


def for_laws(runs: pd.DataFrame, *, without: Iterable[str] = ()) -> pd.DataFrame:
    """The columns of a table of runs that laws know, which refuse others; without some of them if asked."""
    left_out = set(without)
    return runs[[name for name in COLUMNS if name in runs and name not in left_out]]


def infinite_where_lost(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, those that did not end well with an infinite loss: worse than any, whatever they are compared by."""
    return runs.assign(loss_nats=runs["loss_nats"].where(runs["outcome"] == "OK", math.inf))


def tuned(runs: pd.DataFrame, *, along: str, over: str = "lr") -> pd.DataFrame:
    """For every value of `along` the best `over` by the mean loss of the seeds it was run with: its mean, their sd,
    their number n.

    `edge` says that the best one is the smallest or largest that was tried: the optimum may be beyond.
    """
    cells = _cells(runs, along, over)
    best = cells.loc[cells.groupby(along)["loss_nats"].idxmin()].reset_index(drop=True)
    ends = cells.groupby(along)[over].agg(["min", "max"]).loc[best[along]]
    return best.assign(edge=(best[over].to_numpy()[:, None] == ends.to_numpy()).any(axis=1))


def slope(runs: pd.DataFrame, *, along: str, name: str, draws: int = 1000, joint: bool = True) -> Finding:
    """How far the best learning rate moves, in octaves a doubling of `along`: the exponent of its law.

    Every scale's optimum is that of a fitted valley; the law is a power of them (two stages), or, with `along` alone
    varied and all runs in one likelihood, the joint fit, whose interval is narrower and is taken where there is one
    unless `joint` is false: where the two disagree, the valleys of single scales do not show what their law does.

    Raises:
        Refused: where the runs are of several groups, or no two scales have an optimum inside their grids.
    """
    # Sizes move with the shape, and would make every scale a group of its own.
    known = for_laws(runs, without=set(PARAMS) - {along})
    laws = study(known, theory={along: 0.0}, scales=[along], draws=draws)
    if len(laws.groups) != 1:
        keys = "; ".join(str(group.key) for group in laws.groups)
        raise Refused(f"{name}: runs of {len(laws.groups)} groups ({keys}): give those of one")
    (group,) = laws.groups
    together = group.joint.estimates.get(f"lr ~ {along}") if joint and group.joint is not None else None
    moved = drift(group)
    estimate = together or (None if moved is None else moved.exponent)
    if estimate is None:
        raise Refused(f"{name}: no law of the best lr in {along}: {'; '.join(group.not_fitted.values())}")
    return Finding(
        name=name, value=estimate.value, low=estimate.low, high=estimate.high,
        unit=f"octaves a doubling of {along.replace('_', ' ')}", n=len(known),
    )  # fmt: skip


def carried(runs: pd.DataFrame, *, along: str, name: str, over: str = "lr", seed: int = 0) -> Finding:
    """What the smallest scale's best `over` loses at the largest beside that scale's own best, in nats.

    The smallest scale chooses among the settings that the largest was run at too, the largest among all of its own,
    both by the mean loss of the seeds each setting was run with. The interval is of seeds resampled, the choices made
    again each time and scored by all seeds: what depends on which seeds one happened to run. It is infinite where the
    largest diverged at the smallest's choice.

    Raises:
        Refused: where the largest scale was not run at the smallest's best setting, where a setting of either has one
            seed, or where either diverged at every setting.
    """
    ends = runs[along].min(), runs[along].max()
    smallest, largest = (_by_seed(runs, along, scale, over) for scale in ends)
    for scale, losses in zip(ends, (smallest, largest), strict=True):
        seeds = losses.notna().sum(axis=1)
        if seeds.min() < 2:
            raise Refused(
                f"{name}: at {along} {scale:g}, {over} {seeds.idxmin():g}: one seed says nothing of its noise: give at"
                " least 2"
            )
        if not np.isfinite(losses.mean(axis=1)).any():
            raise Refused(f"{name}: at {along} {scale:g} no {over} ended well with all of its seeds: try lower ones")
    both = smallest.index.intersection(largest.index)
    if tuned(runs, along=along, over=over)[over].iloc[0] not in both:
        raise Refused(f"{name}: the largest {along} was not run at the smallest's best {over}: add it to the grid")
    rng = np.random.default_rng([seed, len(runs)])
    small_BR, large_AR = (_resampled(each.to_numpy(float), rng) for each in (smallest.loc[both], largest))
    truth_A = large_AR[:, 0]  # the first is what was seen
    truth_B = truth_A[largest.index.get_indexer(both)]
    # What diverged with a seed that was not drawn is no best of its scale: nothing is lost beside it.
    best_R = np.where(np.isinf(truth_A)[:, None], np.inf, large_AR).argmin(axis=0)
    excess_R = truth_B[small_BR.argmin(axis=0)] - truth_A[best_R]
    low, high = np.quantile(excess_R[1:], LIMITS, method="inverted_cdf")  # which takes infinite ones
    value = float(excess_R[0])
    return Finding(
        name=name, value=value, low=min(float(low), value), high=max(float(high), value), unit="nats", n=len(runs),
        note=OF_THE_CHOICE,
    )  # fmt: skip


def gap(a: pd.DataFrame, b: pd.DataFrame, *, name: str, column: str = "loss_nats", unit: str = "nats") -> Finding:
    """The mean of runs `a` minus that of `b`: paired by seed where both have the same ones, else Welch's interval.

    Raises:
        Refused: with fewer than 2 runs on a side, or a loss that is not finite: a run that diverged has no mean.
    """
    for side in (a, b):
        if len(side) < 2 or not np.isfinite(side[column]).all():
            raise Refused(f"{name}: a difference with an interval needs 2 runs or more on each side, all finite")
    if sorted(a["seed"]) == sorted(b["seed"]) and a["seed"].is_unique:
        difference = a.set_index("seed")[column] - b.set_index("seed")[column]
        interval = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
    else:
        interval = stats.ttest_ind(a[column], b[column], equal_var=False).confidence_interval(0.95)
    value = float(a[column].mean() - b[column].mean())
    low, high = (value if math.isnan(limit) else float(limit) for limit in interval)  # no noise at all
    return Finding(name=name, value=value, low=low, high=high, unit=unit, n=len(a) + len(b))


def at(runs: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The runs that have these values in these columns (names with a dot: `at(runs, **{"hparams.eps": 1e-8})`)."""
    return selected(runs, values)


def selected(runs: pd.DataFrame, values: Mapping[str, object]) -> pd.DataFrame:
    """The runs that have these values; `Refused` where there are none, or no such column."""
    for name in values:
        if name not in runs:
            raise Refused(f"no column {name!r}: there are {', '.join(runs.columns)}")
    kept = runs[np.logical_and.reduce([_same(runs[name], value) for name, value in values.items()])] if values else runs
    if kept.empty:
        raise Refused(f"no run has {', '.join(f'{name}={_text(value)}' for name, value in values.items())}")
    return kept


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _same(column: "pd.Series[Any]", value: object) -> Any:
    """Where a column has a value; numbers as far as tables keep them."""
    numbers = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numbers and isinstance(value, int | float):
        return np.isclose(column.to_numpy(float), float(value), rtol=CLOSE, atol=0.0)
    return column == value


def _cells(runs: pd.DataFrame, along: str, over: str) -> pd.DataFrame:
    """Mean, sd and number of seeds of every setting; where any of them diverged the mean is infinite, the sd NaN."""
    cells = infinite_where_lost(runs).groupby([along, over], as_index=False)["loss_nats"].agg(["mean", "std", "count"])
    return cells.rename(columns={"mean": "loss_nats", "std": "sd", "count": "n"})


def _resampled(loss_BS: Array, rng: np.random.Generator) -> Array:
    """Means over the seeds, then over seeds resampled: [settings, 1 + RESAMPLES]; infinite where one drawn diverged.

    A setting is resampled among the seeds it was run with; settings with the same ones share the draws, since what a
    seed is worth is much the same at all of them.
    """
    means_BR = np.empty((len(loss_BS), 1 + RESAMPLES))
    known_BS = ~np.isnan(loss_BS)
    for known_S in dict.fromkeys(map(tuple, known_BS)):
        own_B = (known_BS == known_S).all(axis=1)
        own_BS = loss_BS[own_B][:, list(known_S)]
        seeds = own_BS.shape[1]
        draws_RS = np.vstack([np.arange(seeds), rng.integers(seeds, size=(RESAMPLES, seeds))])
        means_BR[own_B] = own_BS[:, draws_RS].mean(axis=-1)
    return means_BR


def _by_seed(runs: pd.DataFrame, along: str, scale: float, over: str) -> pd.DataFrame:
    """Losses at one scale, a row a setting, a column a seed; infinite where it diverged, NaN where it is missing."""
    part = infinite_where_lost(runs[runs[along] == scale])
    return part.groupby([over, "seed"])["loss_nats"].mean().unstack("seed")
