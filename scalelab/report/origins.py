"""When, where and with what the runs of a folder were trained, from what their trials say."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scalelab.collection import COLLECTION_FILE, columns_of
from scalelab.counted import counted
from scalelab.errors import Refused
from scalelab.trials import run_folders

WHAT = ("scalelab", "torch", "python", "device", "host")


@dataclass(frozen=True, kw_only=True)
class Origins:
    """`versions` by what: how many runs say which. `first` and `last` are the times at which runs started, ISO."""

    versions: Mapping[str, Mapping[str, int]]
    first: str
    last: str


def origins(folder: Path) -> Origins:
    """Gathered from every trial of a folder."""
    counts: dict[str, Counter[str]] = {what: Counter() for what in WHAT}
    started = []
    for made in _provenances(folder):
        for what in WHAT:
            if what in made:
                counts[what][str(made[what])] += 1
        if "started" in made:
            started.append(str(made["started"]))
    return Origins(versions=counts, first=min(started, default=""), last=max(started, default=""))


def _provenances(folder: Path) -> Iterator[Mapping[str, object]]:
    known: dict[Path, dict[str, str]] = {}
    for run in counted(run_folders(folder), f"looking through {folder}"):
        study = run.path.parent
        if study not in known:
            columns = columns_of(study, ("run", "trial")) if (study / COLLECTION_FILE).exists() else {}
            known[study] = dict(zip(columns.get("run", ()), columns.get("trial", ()), strict=True))
        text = known[study].get(run.path.name)
        try:
            plain = run.plain() if text is None else json.loads(text)
        except Refused:  # counted as unreadable, see `status`
            continue
        yield plain.get("provenance") or {}
