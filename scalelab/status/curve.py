"""The end of a run's curve → how far it is, and how fast it goes."""

import json
import os
from dataclasses import dataclass
from typing import Any

TAIL_BYTES = 4096  # of a curve: about 25 records, a quarter of a run


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The end of a curve: the last attempt's records, as far as they are read."""

    tokens: int = 0
    seconds: float = 0.0
    interval: float = 0.0  # seconds by the clock between records
    tokens_per_second: float | None = None  # of its worker's time
    workers: float = 1.0


def curve_end(file: "os.DirEntry[str]") -> Curve:
    """The last records, by whose tokens and times it is known how fast a run goes now."""
    with open(file.path, "rb") as lines:
        lines.seek(max(0, lines.seek(0, os.SEEK_END) - TAIL_BYTES))
        text = lines.read().decode(errors="replace").splitlines()
    records = [record for record in map(_record, text) if record is not None]
    if not records:
        return Curve()
    last = records[-1]
    first = next(record for record in records if record["attempt"] == last["attempt"])
    steps = sum(record["attempt"] == last["attempt"] for record in records) - 1
    # `time` is the clock's. Without it the seconds are, as for a run that has its worker for itself.
    spent = last["seconds"] - first["seconds"]
    clock = last["time"] - first["time"] if "time" in first and "time" in last else spent
    return Curve(
        tokens=int(last["tokens"]), seconds=float(last["seconds"]), interval=clock / steps if steps else 0.0,
        tokens_per_second=(last["tokens"] - first["tokens"]) / spent if spent > 0 else None,
        workers=min(1.0, spent / clock) if spent > 0 and clock > 0 else 1.0,
    )  # fmt: skip


def _record(line: str) -> dict[str, Any] | None:
    """A whole record; None of a line that is cut off, at the start of the tail or by a kill."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(record, dict) and {"attempt", "tokens", "seconds"} <= set(record)
    return record if whole else None
