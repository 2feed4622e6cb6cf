"""What `scalelab check` wrote as small tables for a study to keep, a row a run and not a number a step; what they say.

Their first column, `check`, is the folder below the given one that the check was written to (its -o).
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelab.errors import Refused

NEEDED = {  # of a file, beside what every check has
    "stability": ("axis", "series"),
    "lazy": ("axis", "branches"),
    "spectrum": ("weight_decay_policy", "matrices"),
}


def peaks(folder: Path, quantities: Sequence[str]) -> pd.DataFrame:
    """Of every run of the stability checks below a folder the largest value of each quantity over its steps.

    Raises:
        Refused: where there are no such checks, or one without that quantity.
    """
    rows = []
    for about, plain in _checks(folder, "stability"):
        if missing := [name for name in quantities if name not in plain["series"]]:
            raise Refused(f"{about['check']} has no {missing[0]!r}: it has {', '.join(plain['series'])}")
        for scale, value in enumerate(plain["values"]):
            for seed in range(len(plain["series"][quantities[0]][scale])):
                runs = {name: plain["series"][name][scale][seed] for name in quantities}
                largest = {name: float(np.nanmax(np.array(run, dtype=float))) for name, run in runs.items()}
                rows.append({**about, plain["axis"]: value, "seed": seed, **largest})
    return pd.DataFrame(rows)


def departures(folder: Path) -> pd.DataFrame:
    """Of every run of the laziness checks below a folder each kind of branch's departure; `Refused` without one."""
    return pd.DataFrame([
        {**about, plain["axis"]: value, "seed": seed, "branch": each["branch"], "departure": departure}
        for about, plain in _checks(folder, "lazy")
        for each in plain["branches"]
        for value, seeds in zip(plain["values"], each["departure"], strict=True)
        for seed, departure in enumerate(seeds)
    ])  # fmt: skip


def singular_values(folder: Path) -> pd.DataFrame:
    """Of every run of the spectrum checks below a folder each matrix's last top singular value, its stable rank, and
    how many 1/(lr·weight decay) the run lasted at the width where that is longest; `Refused` without one.
    """
    return pd.DataFrame([
        {**about, "weight_decay_policy": plain["weight_decay_policy"], "width": width, "seed": seed,
         "matrix": each["name"], "top": top[-1], "stable_rank": rank[-1], "time_scales": each["time_scales"]}
        for about, plain in _checks(folder, "spectrum")
        for each in plain["matrices"]
        for width, tops, ranks in zip(plain["values"], each["top"], each["stable_rank"], strict=True)
        for seed, (top, rank) in enumerate(zip(tops, ranks, strict=True))
    ])  # fmt: skip


def _checks(folder: Path, kind: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What was asked of each check, and what its file says; `Refused` without one, or of one that is not whole."""
    files = sorted(folder.rglob(f"{kind}_*.json"))
    if not files:
        raise Refused(f"no {kind} checks below {folder}: `scalelab check --{kind} -o {folder}/…` writes them")
    for file in files:
        plain = _plain(file, ("parametrization", "lr", "steps", "values", *NEEDED[kind]))
        about = {name: plain[name] for name in ("parametrization", "lr")}
        about["steps"] = np.max(plain["steps"]).item()  # one number, or those at which spectra were looked at
        yield {"check": str(file.parent.relative_to(folder)), **about}, plain


def _plain(file: Path, needed: Sequence[str]) -> dict[str, Any]:
    again = "write it again with `scalelab check`"
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{file} is no whole JSON ({error}): {again}") from error
    if not isinstance(plain, dict):
        raise Refused(f"{file} is no check, which is a JSON object: {again}")
    if missing := [name for name in needed if name not in plain]:
        raise Refused(f"{file} has no {missing[0]!r}, which a check has: {again}")
    return plain


def separating(values: Sequence[float], outcome: Sequence[bool]) -> float:
    """The positive value from which on the outcome is true, with the fewest mistakes: the middle of the gap, in logs.

    Of gaps with as few mistakes the widest. Equal values are not put apart, whatever their outcomes.

    Raises:
        Refused: where the outcome or the value is the same of all.
    """
    at = np.log(np.array(values, dtype=float))
    order = at.argsort(kind="stable")
    at, true = at[order], np.array(outcome, dtype=bool)[order]
    if true.all() or not true.any():
        raise Refused("nothing separates outcomes that are all alike")
    mistakes = np.cumsum(true)[:-1] + np.cumsum(~true[::-1])[:-1][::-1]  # with the border after each place
    gaps = np.diff(at)
    between = np.flatnonzero(gaps > 0)
    if not len(between):
        raise Refused("nothing separates values that are all alike")
    border = min(between, key=lambda place: (mistakes[place], -gaps[place]))
    return float(np.exp((at[border] + at[border + 1]) / 2))
