"""From a table of trials to cells: what was trained at one scale, at which learning rates, and what came of it.

One row of the table is one run. Rows that agree in everything but LR, seed and loss form a *cell*, whose losses against
log2 LR trace a valley. Cells that differ only in scale (width, depth, parameters, tokens) form a *group*: within it a
law may be fitted, across groups nothing is pooled. What the table says is checked here, once, and nothing is repaired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from scalelab.errors import Refused, unknown

Array = npt.NDArray[np.float64]

SCALES: dict[str, str] = {
    "width": "units of the residual stream",
    "depth": "blocks",
    "params_non_embedding": "parameters without embeddings",
    "tokens": "training tokens",
}
SETTINGS = ("parametrization", "optimizer", "data", "batch_tokens", "weight_decay")
NAMES = ("parametrization", "optimizer", "data")
OUTCOMES = ("OK", "DIVERGED", "FAILED")
COLUMNS = (
    "run", *NAMES, *SCALES, "batch_tokens", "lr", "weight_decay", "seed", "loss_nats", "outcome", "cost_flops",
)  # fmt: skip
LOG2_LR_DIGITS = 6  # LRs that agree to a millionth of an octave are one LR, computed in two ways


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
    """Cells that share every setting (`key`: column → value) and differ in scale."""

    key: Mapping[str, str | float]
    cells: Sequence[Cell]
    n_failed: int
    n_repeated: int


def groups(table: pd.DataFrame, *, scales: Sequence[str]) -> list[Group]:
    """The table's groups and their cells, in a fixed order that does not depend on the order of the rows.

    FAILED rows are infrastructure and carry no information on the loss: they are dropped and counted, as are exact
    repetitions of a row.

    Raises:
        Refused: on an empty table, a missing or unknown column, a value out of range, or two runs that claim to be
            the same and disagree on the loss.
    """
    trials = _checked(table, scales)
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
                n_failed=len(rows) - len(tried),
                n_repeated=len(tried) - len(kept),
            )
        )
    return [group for group in found if group.cells]


def _checked(table: pd.DataFrame, scales: Sequence[str]) -> pd.DataFrame:
    if table.empty:
        raise Refused("the table has no rows: fitting needs one row a run; train a sweep or read its results first")
    for name in table.columns:
        if name not in COLUMNS:
            raise unknown("column", name, COLUMNS)
    for name in ("lr", "loss_nats"):
        if name not in table:
            raise Refused(f"the table has no column {name!r}: needed are lr, loss_nats and one of {', '.join(scales)}")
    if not any(name in table for name in scales):
        raise Refused(f"the table has no scale column: accepted are {', '.join(scales)}; add the one that was varied")
    trials = table.copy()
    if "run" not in trials:
        trials["run"] = [f"row {index}" for index in range(len(trials))]
    for name in NAMES:
        if name not in trials:
            trials[name] = "unstated"
        if trials[name].isna().any():
            raise Refused(f"column {name!r} is empty at {_runs(trials, trials[name].isna())}: fill it or drop it")
        trials[name] = trials[name].astype(str)
    for name in ("lr", "loss_nats", "batch_tokens", "weight_decay", *SCALES):
        if name in trials:
            trials[name] = _numbers(trials, name)
    for name in ("lr", "batch_tokens", *SCALES):
        if name in trials:
            bad = ~(np.isfinite(trials[name]) & (trials[name] > 0))
            if bad.any():
                raise Refused(f"{name} at {_runs(trials, bad, name)}: accepted is a finite number > 0")
    if "weight_decay" in trials:
        bad = ~(np.isfinite(trials["weight_decay"]) & (trials["weight_decay"] >= 0))
        if bad.any():
            raise Refused(f"weight_decay at {_runs(trials, bad, 'weight_decay')}: accepted is a finite number ≥ 0")
    trials["log2_lr"] = np.log2(trials["lr"]).round(LOG2_LR_DIGITS)
    _check_losses(trials)
    if "seed" not in trials:
        same = [name for name in (*SETTINGS, *SCALES, "log2_lr") if name in trials]
        trials = trials.sort_values([*same, "loss_nats"], kind="stable")
        trials["seed"] = trials.groupby(same).cumcount()
    if trials["seed"].isna().any():
        raise Refused(f"column 'seed' is empty at {_runs(trials, trials['seed'].isna())}: fill it or drop the column")
    trials["seed"] = trials["seed"].astype(str)
    _refuse_disagreement(trials)
    return trials


def _check_losses(trials: pd.DataFrame) -> None:
    finite = np.isfinite(trials["loss_nats"])
    if "outcome" not in trials:
        trials["outcome"] = np.where(finite, "OK", "DIVERGED")
    for outcome in trials["outcome"].unique():
        if outcome not in OUTCOMES:
            raise unknown("outcome", outcome, OUTCOMES)
    wrong = ~finite & (trials["outcome"] == "OK")
    if wrong.any():
        raise Refused(f"loss_nats at {_runs(trials, wrong, 'loss_nats')} with outcome OK: mark it DIVERGED or FAILED")
    if (negative := trials["loss_nats"] < 0).any():
        raise Refused(f"loss_nats at {_runs(trials, negative, 'loss_nats')}: accepted is a cross entropy ≥ 0")


def _refuse_disagreement(trials: pd.DataFrame) -> None:
    same = [name for name in (*SETTINGS, *SCALES, "log2_lr", "seed") if name in trials]
    rows = trials[trials["outcome"] != "FAILED"]
    result = rows["loss_nats"].where(rows["outcome"] == "OK", np.inf)
    disagree = result.groupby([rows[name] for name in same]).transform("nunique") > 1
    if disagree.any():
        first = rows[disagree].sort_values([*same, "run"])
        twins = first[(first[same] == first[same].iloc[0]).all(axis=1)]
        raise Refused(
            f"runs {', '.join(map(str, twins['run']))} are the same in every column but differ in result: "
            "give them different seeds, or keep one"
        )


def _cell(scale: Mapping[str, float], runs: pd.DataFrame) -> Cell:
    wide = runs.assign(loss_nats=runs["loss_nats"].where(runs["outcome"] == "OK"))
    losses = wide.pivot(index="seed", columns="log2_lr", values="loss_nats").sort_index(axis=1)
    share = (runs["outcome"] == "DIVERGED").groupby(runs["log2_lr"]).mean().sort_index()
    return Cell(
        scale=scale,
        log2_lr_L=losses.columns.to_numpy(dtype=float),
        loss_SL=losses.to_numpy(dtype=float),
        diverged_L=share.to_numpy(dtype=float) >= 0.5,
        n_runs=len(runs),
        n_diverged=int((runs["outcome"] == "DIVERGED").sum()),
    )


def _numbers(trials: pd.DataFrame, name: str) -> "pd.Series[float]":
    numbers = pd.to_numeric(trials[name], errors="coerce").astype(float)
    words = numbers.isna() & trials[name].notna()
    if words.any():
        raise Refused(f"{name} at {_runs(trials, words, name)}: accepted is a number")
    return numbers


def _runs(trials: pd.DataFrame, where: "pd.Series[bool]", column: str | None = None) -> str:
    rows = trials[where]
    shown = [
        str(run) if column is None else f"{run} ({value})"
        for run, value in zip(rows["run"].head(3), rows[column if column is not None else "run"].head(3), strict=True)
    ]
    return ", ".join(shown) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")


def _plain(value: object) -> str | float:
    return value if isinstance(value, str) else float(value)  # type: ignore[arg-type]
