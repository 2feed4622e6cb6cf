"""Numbers as people write them in tables: 1.4B, 300M, 2e9, 1,000."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

SUFFIX = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
# Commas only between groups of three digits: "1,4" is a decimal comma to some and is not read.
WRITTEN = re.compile(r"([-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:e[-+]?\d+)?)\s*([kmbgt]?)", re.IGNORECASE)
NOTHING = {"", "-", "–", "none", "null", "n/a", "na", "nan"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Numbers:
    """A column as numbers, the first text that had to be interpreted, and the first that could not be."""

    values: "pd.Series[Any]"
    interpreted: str | None = None
    example: float = 0.0  # what the interpreted text was read as
    unreadable: str | None = None

    @property
    def usable(self) -> bool:
        return self.unreadable is None and bool(self.values.notna().any())


def numbers(column: "pd.Series[Any]") -> Numbers:
    """A column as numbers; what is numeric already keeps its type.

    >>> found = numbers(pd.Series(["1.4B", "300M", "2e9"]))
    >>> found.values.tolist(), found.interpreted
    ([1400000000.0, 300000000.0, 2000000000.0], '1.4B')
    >>> numbers(pd.Series(["12", "a dozen"])).unreadable
    'a dozen'
    """
    if pd.api.types.is_bool_dtype(column):
        return Numbers(values=column, unreadable=str(column.iloc[0]))
    if pd.api.types.is_numeric_dtype(column):
        return Numbers(values=column)
    values = pd.to_numeric(column, errors="coerce").astype(float)
    text = column[values.isna() & column.notna()].astype(str).str.strip()
    text = text[~text.str.lower().isin(NOTHING)]
    read: dict[str, float] = {}
    for written in text.unique():
        value = number(written)
        if value is None:
            return Numbers(values=values, unreadable=written)
        read[written] = value
    values.loc[text.index] = text.map(read).astype(float)
    interpreted = next(iter(read), None)
    return Numbers(values=values, interpreted=interpreted, example=read.get(interpreted or "", 0.0))


def number(written: str) -> float | None:
    """One number as people write it; None where it is none.

    >>> number("1.4B"), number("a dozen")
    (1400000000.0, None)
    """
    if written.lower().lstrip("+-") in ("inf", "infinity"):
        return -np.inf if written.startswith("-") else np.inf
    found = WRITTEN.fullmatch(written)
    if found is None or not re.search(r"\d", found[1]):
        return None
    try:
        return float(found[1].replace(",", "")) * SUFFIX[found[2].lower()]
    except ValueError:  # "e5", which the pattern admits
        return None
