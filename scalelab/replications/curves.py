"""Training curves → whether the larger of two scales is ahead, at equal setting and all along training."""

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from scalelab.errors import Refused
from scalelab.laws.law import Array
from scalelab.replications.finding import Finding

RESAMPLES = 2000
POINT = re.compile(r"train_loss_(\d+)_of_\d+")  # what `scalelab collect --curve` adds


@dataclass(frozen=True, kw_only=True, eq=False)
class Ahead:
    """`behind_KTS` is the training loss of the larger scale minus that of its smaller neighbour, nats: a row a pair of
    neighbours at one setting, by point of training and seed, NaN where both had diverged, with one seed or with two, or
    one was not run. `setting_K` numbers the settings."""

    behind_KTS: Array
    setting_K: npt.NDArray[np.intp]
    runs: int


def larger_ahead(runs: pd.DataFrame, *, along: str, name: str, over: str = "lr", seed: int = 0) -> Finding:
    """The share of all settings, pairs of neighbouring scales and points of training at which the larger one's training
    loss is the lower, by the mean of the seeds that both were run with. A run that diverged is behind from then on;
    where both had, nothing is said.

    The interval is of pairs resampled, each a whole curve, and of seeds; where all agree, the exact binomial one of so
    many pairs.

    Raises:
        Refused: without curves (`scalelab collect --curve 8`), neighbours, or a second seed.
    """
    found = _ahead(runs, along, over, name)
    rng = np.random.default_rng([seed, found.runs])
    pairs, _, seeds = found.behind_KTS.shape
    value = _share(found.behind_KTS)
    drawn = [
        _share(found.behind_KTS[rng.integers(pairs, size=pairs)][..., rng.integers(seeds, size=seeds)])
        for _ in range(RESAMPLES)
    ]
    low, high = np.nanquantile(drawn, (0.025, 0.975))  # seeds of which nothing is known may be drawn
    edge = 0.025 ** (1 / pairs)
    return Finding(
        name=name, value=value, low=min(float(low), edge) if value == 1 else float(low),
        high=max(float(high), 1 - edge) if value == 0 else float(high), unit="of the curves", n=found.runs,
    )  # fmt: skip


def larger_behind(runs: pd.DataFrame, *, along: str, name: str, over: str = "lr") -> Finding:
    """The share of the same points at which the larger one is behind beyond the noise of seeds: a t-test at 5 %, with
    the paired differences' variance pooled within a setting. Of curves that do not differ it would be 2.5 % or less.

    The points of one curve go together: a pair of neighbours counts a degree of freedom for every seed but one, however
    many points it has, and less as the next pair shares a run with it. Where points differ more, that is cautious.

    Raises:
        Refused: as `larger_ahead`.
    """
    found = _ahead(runs, along, over, name)
    behind_KTS = found.behind_KTS
    mean_KT = _mean(behind_KTS)
    seeds_KT = (~np.isnan(behind_KTS)).sum(axis=-1)
    freedom_KT = np.where(np.isfinite(mean_KT), seeds_KT - 1, 0)
    squares_KT = np.nansum((behind_KTS - np.where(freedom_KT > 0, mean_KT, np.nan)[..., None]) ** 2, axis=-1)
    limit_KT = np.full(mean_KT.shape, np.inf)
    for setting in np.unique(found.setting_K):
        own = found.setting_K == setting
        freedom_K = freedom_KT[own].max(axis=1)
        if pairs := np.count_nonzero(freedom_K):
            # Neighbouring pairs share a run: the squares of their differences correlate by 1/4.
            freedom = freedom_K.sum() / (1 + (pairs - 1) / (2 * pairs))
            variance = float(squares_KT[own].sum() / freedom_KT[own].sum())
            limit_KT[own] = stats.t.ppf(0.975, freedom) * np.sqrt(variance / np.maximum(seeds_KT[own], 1))
    known_KT = ~np.isnan(mean_KT)
    value = float(((mean_KT > limit_KT) | (mean_KT == np.inf))[known_KT].mean())
    return Finding(name=name, value=value, unit="of the curves", n=found.runs)


def training(runs: pd.DataFrame, *, along: str) -> pd.DataFrame:
    """Mean training loss of the runs, in nats: a row a point of training (its share of the run), a column a scale.

    A point that a run did not come to, since it had diverged, is NaN.

    Raises:
        Refused: without curves.
    """
    points = points_of(runs)
    means = {f"{along} {scale:g}": own[points].mean(skipna=False) for scale, own in runs.groupby(along)}
    # A point is the mean over the last half of its part.
    return pd.DataFrame(means).set_axis([(place + 0.75) / len(points) for place in range(len(points))], axis=0)


def points_of(runs: pd.DataFrame) -> list[str]:
    """The columns of the training curve, in order."""
    found = [(int(match[1]), name) for name in runs.columns if (match := POINT.fullmatch(str(name)))]
    if not found:
        raise Refused("no training curves in this table: collect it with --curve 8")
    return [name for _, name in sorted(found)]


def _share(behind_KTS: Array) -> float:
    mean_KT = _mean(behind_KTS)
    known_KT = ~np.isnan(mean_KT)
    return float((mean_KT[known_KT] < 0).mean()) if known_KT.any() else math.nan


def _mean(behind_KTS: Array) -> Array:
    """Over the seeds that are known; NaN where none is."""
    known_KTS = ~np.isnan(behind_KTS)
    seeds_KT = known_KTS.sum(axis=-1)
    total_KT = np.where(known_KTS, behind_KTS, 0.0).sum(axis=-1)
    mean_KT: Array = np.where(seeds_KT > 0, total_KT / np.maximum(seeds_KT, 1), np.nan)
    return mean_KT


def _ahead(runs: pd.DataFrame, along: str, over: str, name: str) -> Ahead:
    points = points_of(runs)
    scales = sorted(runs[along].unique())
    common = set.intersection(*(set(runs.loc[runs[along] == scale, "seed"]) for scale in scales))
    if len(scales) < 2 or len(common) < 2:
        raise Refused(f"{name}: needed are 2 or more of {along} with 2 or more seeds that all of them have")
    # What is missing of the curve of a run that diverged came after that.
    filled = runs[points].where(runs[points].notna() | (runs["outcome"] != "DIVERGED").to_numpy()[:, None], np.inf)
    cells = filled.groupby([runs[over], runs[along], runs["seed"]]).mean()
    settings = sorted(runs[over].unique())
    index = pd.MultiIndex.from_product([settings, scales, sorted(common)])
    loss_LWST = cells.reindex(index).to_numpy(float).reshape(len(settings), len(scales), len(common), len(points))
    with np.errstate(invalid="ignore"):  # ∞ − ∞: both had diverged
        behind_LPST = np.diff(loss_LWST, axis=1)
    # Each had diverged, with another seed: it would hang on the seeds that are drawn which of them is behind.
    both_LP1T = np.isposinf(behind_LPST).any(axis=2, keepdims=True) & np.isneginf(behind_LPST).any(
        axis=2, keepdims=True
    )
    behind_LPST = np.where(both_LP1T, np.nan, behind_LPST)
    flat_KST = behind_LPST.reshape(-1, len(common), len(points))
    setting_K = np.repeat(np.arange(len(settings)), len(scales) - 1)
    kept_K = ~np.isnan(flat_KST).all(axis=(1, 2))
    if not kept_K.any():
        raise Refused(f"{name}: no two neighbours in {along} were run at the same {over} and seed")
    return Ahead(behind_KTS=np.moveaxis(flat_KST[kept_K], 1, 2), setting_K=setting_K[kept_K], runs=len(runs))
