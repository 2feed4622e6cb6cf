"""From a table of trials to cells: what was trained at one scale, at which learning rates, and what came of it.

One row of the table is one run. Rows that agree in everything but LR, seed and loss form a *cell*, whose losses against
log2 LR trace a valley. Cells that differ only in scale (width, depth, parameters, tokens) form a *group*: within it a
law may be fitted, across groups nothing is pooled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from scalelab.laws.checked import checked
from scalelab.laws.columns import NAMES, SCALES
from scalelab.laws.law import Array

COVARIATES = ("batch_tokens", "weight_decay")  # settings that count as scales where they vary
SETTINGS = (*NAMES, *COVARIATES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """The runs of one group at one scale: a sampled valley.

    `log2_lr_L` are the distinct LRs in ascending order; `loss_SL` is the loss in nats of seed s at LR l, NaN where that
    run is missing or diverged; `diverged_L` marks the LRs at which at least half of the seeds diverged.
    """

    scale: Mapping[str, float]
    log2_lr_L: Array
    loss_SL: Array
    diverged_L: npt.NDArray[np.bool_]
    n_runs: int
    n_diverged: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Cells that share every setting (`key`: column → value) and differ in scale, and the `runs` behind them."""

    key: Mapping[str, str | float]
    cells: Sequence[Cell]
    runs: pd.DataFrame
    n_failed: int
    n_repeated: int


def swept_scales(runs: pd.DataFrame) -> tuple[str, ...]:
    """Every scale that checked runs state, and settings that were swept as if they were scales."""
    swept = [name for name in COVARIATES if name in runs and runs[name].nunique() > 1 and (runs[name] > 0).all()]
    return (*(name for name in SCALES if name in runs), *swept)


def groups(table: pd.DataFrame, *, scales: Sequence[str]) -> list[Group]:
    """The table's groups and their cells, in a fixed order that does not depend on the order of the rows.

    FAILED rows are infrastructure and carry no information on the loss: they are dropped and counted, as are exact
    repetitions of a row.

    Raises:
        Refused: on an empty table, a missing or unknown column, a value out of range, or two runs that claim to be
            the same and disagree on the loss.
    """
    return grouped(checked(table, needs=("lr",)), scales=scales)


def grouped(trials: pd.DataFrame, *, scales: Sequence[str]) -> list[Group]:
    """The groups of a table that `checked` has been over, for those who have it."""
    settings = [name for name in (*SETTINGS, *SCALES) if name in trials and name not in scales]
    present = [name for name in scales if name in trials]
    found = []
    for key, rows in trials.groupby(settings, sort=True):
        tried = rows[rows["outcome"] != "FAILED"]
        kept = tried.drop_duplicates([*present, "log2_lr", "seed"])
        cells = [
            _cell({name: float(runs[name].iloc[0]) for name in present}, runs) for _, runs in kept.groupby(present)
        ]
        found.append(
            Group(
                key={name: _plain(value) for name, value in zip(settings, key, strict=True)},
                cells=cells,
                runs=kept,
                n_failed=len(rows) - len(tried),
                n_repeated=len(tried) - len(kept),
            )
        )
    return [group for group in found if group.cells]


def _cell(scale: Mapping[str, float], runs: pd.DataFrame) -> Cell:
    log2_lr_L, place_N = np.unique(runs["log2_lr"].to_numpy(float), return_inverse=True)
    seeds, seed_N = np.unique(runs["seed"].to_numpy(str), return_inverse=True)
    diverged_N = (runs["outcome"] == "DIVERGED").to_numpy()
    ok_N = (runs["outcome"] == "OK").to_numpy()
    # A seed has one run at an LR; where rounding made two LRs one, it has their mean.
    count_SL, total_SL = np.zeros((2, len(seeds), len(log2_lr_L)))
    np.add.at(count_SL, (seed_N[ok_N], place_N[ok_N]), 1.0)
    np.add.at(total_SL, (seed_N[ok_N], place_N[ok_N]), runs["loss_nats"].to_numpy(float)[ok_N])
    share_L = np.bincount(place_N, weights=diverged_N) / np.bincount(place_N)
    return Cell(
        scale=scale,
        log2_lr_L=log2_lr_L,
        loss_SL=np.divide(total_SL, count_SL, out=np.full_like(total_SL, np.nan), where=count_SL > 0),
        diverged_L=share_L >= 0.5,
        n_runs=len(runs),
        n_diverged=int(diverged_N.sum()),
    )


def _plain(value: object) -> str | float:
    return value if isinstance(value, str) else float(value)  # type: ignore[arg-type]
