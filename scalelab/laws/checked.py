"""A table of runs, checked: every value of every column is what its name says, and nothing has been repaired.

What is wrong is refused in one line that names the runs. What is only odd (repetitions of a row, failed runs) is kept,
for those who count it.
"""

import numpy as np
import pandas as pd

from scalelab.errors import Refused, unknown
from scalelab.laws.columns import COLUMNS, NAMES, OUTCOMES, PARAMS, SCALES, SETTINGS
from scalelab.laws.law import Array

ENDS = ("OK", "DIVERGED", "FAILED")
SAME_LR_OCTAVES = 0.01  # learning rates within 0.7 % are one, written in two ways
MOST_ROWS = 5_000_000
POSITIVE = ("lr", "batch_tokens", *SCALES)
SMALLEST, LARGEST = 1e-30, 1e60  # of a quantity: beyond them a number is a slip, and products of a few overflow
MEANT = f"from {SMALLEST:g} to {LARGEST:g}"


def checked(table: pd.DataFrame, *, output: str = "loss_nats", needs: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table with every column there that the fits rely on: run, names, outcome, seed; log2_lr where there is lr.

    Args:
        table: a row a run, or a row a checkpoint of a run; columns of `columns.COLUMNS`.
        output: the column that says how a run ended; NaN there is a run that diverged unless `outcome` says otherwise.
        needs: further columns that must be there.

    Raises:
        Refused: on an empty table, a missing or unknown column, a value out of range, two counts of parameters of which
            rows state one or the other, or two runs that claim to be the same and disagree on the result.
    """
    if table.empty:
        raise Refused("the table has no rows: fitting needs one row a run; train a sweep or read its results first")
    if len(table) > MOST_ROWS:
        raise Refused(f"{len(table):,} rows: accepted are up to {MOST_ROWS:,}, a row a run; keep each run's last row")
    for name in table.columns:
        if name not in COLUMNS:
            raise unknown("column", name, COLUMNS)
    for name in (output, *needs):
        if name not in table:
            raise Refused(
                f"the table has no column {name!r}: needed are {', '.join((*needs, output))} and one of width, depth,"
                " params_non_embedding, tokens; name yours with --column"
            )
    if not any(name in table for name in (*SCALES, "cost_flops")):
        raise Refused(f"the table has no scale column: accepted are {', '.join(SCALES)}; add the one that was varied")
    runs = table.reset_index(drop=True)
    if "run" not in runs:
        runs["run"] = [f"row {index}" for index in range(len(runs))]
    _check_names(runs)
    _check_numbers(runs)
    _check_result(runs, output)
    if "lr" in runs:
        runs["log2_lr"] = _snapped(np.log2(runs["lr"].to_numpy(float)))
    _check_seeds(runs, output)
    return runs


def _check_names(runs: pd.DataFrame) -> None:
    for name in NAMES:
        if name not in runs:
            runs[name] = "unstated"
        if (empty := runs[name].isna()).any():
            raise Refused(f"column {name!r} is empty at {shown(runs, empty)}: fill it or drop it")
        runs[name] = runs[name].astype(str)


def _check_numbers(runs: pd.DataFrame) -> None:
    for name in (*POSITIVE, "weight_decay", "cost_flops", *OUTCOMES):
        if name in runs:
            runs[name] = _numbers(runs, name)
    counts = [name for name in PARAMS if name in runs]
    for name in counts:
        missing = runs[name].isna()
        if len(counts) > 1 and missing.any() and not missing.all():
            raise Refused(
                f"{', '.join(counts)}: some rows state one and some another, which are different counts of parameters;"
                " give one of them for every row"
            )
    for name in POSITIVE:
        if name in runs and (bad := ~usable(runs[name])).any():
            raise Refused(f"{name} at {shown(runs, bad, name)}: accepted is a finite number > 0, {MEANT}")
    if "weight_decay" in runs and (bad := ~(np.isfinite(runs["weight_decay"]) & (runs["weight_decay"] >= 0))).any():
        raise Refused(f"weight_decay at {shown(runs, bad, 'weight_decay')}: accepted is a finite number ≥ 0")


def _check_result(runs: pd.DataFrame, output: str) -> None:
    result = runs[output]
    finite = np.isfinite(result)
    if "outcome" not in runs:
        runs["outcome"] = np.where(finite, "OK", "DIVERGED")
    for outcome in runs["outcome"].unique():
        if outcome not in ENDS:
            raise unknown("outcome", outcome, ENDS)
    ok = runs["outcome"] == "OK"
    if (wrong := ~finite & ok).any():
        raise Refused(f"{output} at {shown(runs, wrong, output)} with outcome OK: mark it DIVERGED or FAILED")
    if (bad := ~usable(result) & ok).any():
        what = "a cross entropy > 0" if output == "loss_nats" else f"a number > 0, {MEANT}"
        raise Refused(f"{output} at {shown(runs, bad, output)}: accepted is {what}")


def _check_seeds(runs: pd.DataFrame, output: str) -> None:
    same = [name for name in (*NAMES, *SETTINGS, *SCALES) if name in runs]
    if "seed" not in runs:
        order = runs[[*same, "run", output]].sort_values([*same, output, "run"], kind="stable").index
        runs["seed"] = runs.loc[order].groupby(same, sort=False).cumcount()
    if (empty := runs["seed"].isna()).any():
        raise Refused(f"column 'seed' is empty at {shown(runs, empty)}: fill it or drop the column")
    runs["seed"] = runs["seed"].astype(str)
    rows = runs[runs["outcome"] != "FAILED"]
    result = rows[output].where(rows["outcome"] == "OK", np.inf)
    disagree = result.groupby([rows[name] for name in (*same, "seed")], sort=False).transform("nunique") > 1
    if disagree.any():
        first = rows[disagree].sort_values([*same, "seed", "run"])
        twins = first[(first[[*same, "seed"]] == first[[*same, "seed"]].iloc[0]).all(axis=1)]
        raise Refused(
            f"runs {', '.join(map(str, twins['run']))} are the same in every column but differ in result: "
            "state what differs (lr? seed?), or keep one"
        )


def _snapped(log2_N: Array) -> Array:
    """Values that differ by rounding made equal: each group of them, no wider than the tolerance, at its mean."""
    values, place_N = np.unique(log2_N, return_inverse=True)
    group, first = np.zeros(len(values), dtype=int), values[0]
    for k in range(1, len(values)):
        if values[k] - first > SAME_LR_OCTAVES:
            first = values[k]
            group[k] = group[k - 1] + 1
        else:
            group[k] = group[k - 1]
    middle = np.bincount(group, weights=values) / np.bincount(group)
    return np.asarray(middle.round(6)[group][place_N])


def _numbers(runs: pd.DataFrame, name: str) -> "pd.Series[float]":
    numbers = pd.to_numeric(runs[name], errors="coerce").astype(float)
    if (words := numbers.isna() & runs[name].notna()).any():
        raise Refused(f"{name} at {shown(runs, words, name)}: accepted is a number")
    return numbers


def usable(values: "pd.Series[float]") -> "pd.Series[bool]":
    """Which values a law can be fitted to: positive numbers of a size that some quantity has."""
    return (values >= SMALLEST) & (values <= LARGEST)


def shown(runs: pd.DataFrame, where: "pd.Series[bool]", column: str | None = None) -> str:
    """The first three of the runs where something is so, by name, with the value of a column."""
    rows = runs[where]
    said = [
        str(run) if column is None else f"{run} ({value})"
        for run, value in zip(rows["run"].head(3), rows[column if column is not None else "run"].head(3), strict=True)
    ]
    return ", ".join(said) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
