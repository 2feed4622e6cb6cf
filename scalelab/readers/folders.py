"""Our own run folders: everything about them is known, so nothing is guessed."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scalelab.collection import COLLECTION_FILE, FIELDS, FREE, collected, columns_of, row_of
from scalelab.counted import counted
from scalelab.errors import Refused
from scalelab.laws.columns import COLUMNS
from scalelab.readers.units import ENDINGS
from scalelab.spec import RunSpec, as_plain, leaves
from scalelab.trials import TRIAL_FILE, RunFolder, folders_in, listed, plain_in, trial_of

CONVENTIONS: Mapping[str, str] = {
    "params": "without embeddings (params_non_embedding)",
    "loss": "nats a token, over the validation set",
    "batch": "tokens",
    "lr": "peak",
    "flops": "6N plus attention, validation not counted",
}
FREE_PATHS = tuple(f"{part}.{name}" for part, names in FREE.items() for name in names) + tuple(
    part if part == "seed" else f"{part}." for part, names in FREE.items() if not names
)
ASKED = tuple(name for name in (*COLUMNS, "kind", "flops_per_token") if name in FIELDS and name != "run")


def folder_runs(path: Path) -> tuple[pd.DataFrame, tuple[RunSpec, ...]]:
    """The table of all run folders at or below `path`, by path, empty where there is none; and what kinds they are of.

    Of the runs that differ only in what is `FREE` the spec of the largest is given. What is in a study's collection is
    not opened.

    Raises:
        Refused: on a torn or foreign trial.json, or a collection that cannot be read.
    """
    opened: list[tuple[Any, ...]] = []
    known: dict[str, set[str]] = {}  # by study: the runs that its collection stands for
    for folder, in_collection in counted(_runs(str(path)), f"reading {path}"):
        study, _, name = folder.rpartition(os.sep)
        if in_collection:
            known.setdefault(study, set()).add(name)
        else:
            plain = plain_in(folder)
            row = row_of(trial_of(plain, folder), plain["spec"])
            opened.append((folder, *(row[name] for name in ASKED)))
    tables = [_collected(study, names) for study, names in known.items()]
    if opened or not tables:
        tables.append(pd.DataFrame(opened, columns=["run", *ASKED]))
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        return table, ()
    parts = [run.split(os.sep) for run in table["run"].tolist()]
    if any(parts[at] > parts[at + 1] for at in range(len(parts) - 1)):
        table = table.iloc[sorted(range(len(parts)), key=parts.__getitem__)].reset_index(drop=True)
    specs = _largest(table)
    table["run"] = table["run"].str.removeprefix(f".{os.sep}")  # of what was asked for as "."
    unique = table["kind"].map({kind: json.loads(kind)["data"].get("unique_tokens") for kind in table["kind"].unique()})
    if unique.notna().any():
        table["unique_tokens"] = unique.astype(float)
    table["outcome"] = table["outcome"].str.lower().map(ENDINGS)  # what is cut short is no result: PRUNED is FAILED
    return table[[name for name in COLUMNS if name in table]], specs


def _runs(folder: str) -> Iterator[tuple[str, bool]]:
    """Every run folder at or below one that has a trial, and whether that is in its study's collection."""
    if os.path.exists(f"{folder}{os.sep}{TRIAL_FILE}"):  # as in `run_folders`
        yield folder, False
        return
    entries = listed(folder)
    known = set(columns_of(Path(folder), ["run"])["run"]) if COLLECTION_FILE in entries else frozenset()
    for entry in folders_in(entries):
        if entry.name in known:
            yield entry.path, True
        else:
            yield from _runs(entry.path)


def _collected(study: str, names: set[str]) -> pd.DataFrame:
    """The rows of these runs, of a study's collection."""
    found = collected(Path(study), ["run", *ASKED])
    assert found is not None  # the names were read from it
    table: pd.DataFrame = found.to_pandas()
    return table[table["run"].isin(names)].assign(run=study + os.sep + table["run"])


def _largest(table: pd.DataFrame) -> tuple[RunSpec, ...]:
    """The spec of the largest run of each kind, read in full: they are few."""
    cost = (table["flops_per_token"] * table["tokens"]).rename("cost")
    ordered = pd.concat([table[["run", "kind"]], cost], axis=1).sort_values("cost", kind="stable")
    largest = ordered.drop_duplicates("kind", keep="last").sort_index()
    return tuple(RunFolder(Path(folder)).read().spec for folder in largest["run"])


def refuse_mixture(specs: Sequence[RunSpec]) -> None:
    """Refuse runs of one parametrization and optimizer that differ in something no law here explains."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for spec in specs:
        kinds.setdefault((spec.parametrization, spec.optimizer), []).append(dict(leaves(as_plain(spec))))
    for (parametrization, optimizer), members in kinds.items():
        first = members[0]
        for other in members[1:]:
            for key in first.keys() | other.keys():
                stated = key in first and key in other
                if stated and key == "data.unique_tokens":  # a column, which a law may have as an input
                    continue
                if first.get(key) != other.get(key) and not key.startswith(FREE_PATHS):
                    raise Refused(
                        f"{parametrization}/{optimizer} runs differ in {key} ({first.get(key)!r} and"
                        f" {other.get(key)!r}): a law needs it fixed, give the runs of one value"
                    )
