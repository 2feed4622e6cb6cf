"""Run folders → the collection in their study's folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scalelab.collection.rows import row_of
from scalelab.collection.table import COLLECTION_FILE, as_table, collected, pyarrow_parquet, write
from scalelab.counted import counted
from scalelab.errors import Refused
from scalelab.trials import FINAL, TRIAL_FILE, RunFolder, run_folders, trial_of

SIGNATURE = ("modified_ns", "bytes")  # of a trial.json: whether it is the one that was collected


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What came of collecting a study.

    `runs` are in its collection now, `new` of them since this time; the folders of `gone` are not there any more.
    `not_final` have failed or were pruned, and are not in it; `unreadable` are corrupt or of another version.
    """

    study: Path
    runs: int
    new: int
    gone: int
    not_final: int
    unreadable: int

    def summary(self) -> str:
        """What came of it, in one line."""
        counts = {
            "of them without a folder now": self.gone,
            "not final, left out": self.not_final,
            "unreadable, left out: `fit` says which": self.unreadable,
        }
        left = [f"{count} {what}" for what, count in counts.items() if count]
        said = f"{self.study / COLLECTION_FILE}: {self.runs} runs, {self.new} new"
        return "; ".join([said, *left])

    def as_plain(self) -> dict[str, Any]:
        """JSON types, the file included."""
        return asdict(self) | {"study": str(self.study), "file": str(self.study / COLLECTION_FILE)}


def collect(folder: Path) -> list[Collected]:
    """Bring the collections of all studies at or below a folder up to date. Runs may be under way.

    Only trials that are new, or are not what was collected, are read.

    Raises:
        Refused: where the folder is absent, is a run's or has no trial below it, without pyarrow, or where a collection
            that is there can't be read.
        OSError: where a study cannot be written to.
    """
    pyarrow_parquet(folder / COLLECTION_FILE)
    if not folder.is_dir():
        raise Refused(f"no folder {folder}: give studies, with runs at or below them, for example runs/my_study")
    by_study: dict[Path, list[RunFolder]] = {}
    for run in counted(run_folders(folder), f"looking through {folder}"):
        if run.path == folder:
            raise Refused(f"{folder} is the folder of a run: give its study's, {folder.absolute().parent}")
        by_study.setdefault(run.path.parent, []).append(run)
    if not by_study:
        raise Refused(f"no trials in {folder} or below: a run that has ended has a {TRIAL_FILE}")
    return [_collect(study, runs) for study, runs in by_study.items()]


def _collect(study: Path, runs: Sequence[RunFolder]) -> Collected:
    before = collected(study)
    known = {} if before is None else _signatures(before)
    rows: list[dict[str, Any]] = []
    not_final = unreadable = 0
    for run in counted(runs, f"collecting {study}", total=len(runs)):
        try:
            there = (run.path / TRIAL_FILE).stat()
            signature = (there.st_mtime_ns, there.st_size)
            if known.get(run.path.name) == signature:
                continue
            plain = run.plain()
            trial = trial_of(plain, run.path / TRIAL_FILE)
        except FileNotFoundError:  # removed since it was listed
            continue
        except Refused:
            unreadable += 1
            continue
        if trial.outcome not in FINAL:
            not_final += 1
            continue
        row = {
            "run": run.path.name,
            "fingerprint": plain.get("fingerprint") or trial.spec.fingerprint,
            "trial": json.dumps(plain, separators=(",", ":"), allow_nan=False),
            **dict(zip(SIGNATURE, signature, strict=True)),
        }
        rows.append(row | row_of(trial, plain["spec"]))
    if rows:
        before = _merged(before, rows)
        write(study, before)
    names = set() if before is None else set(before.column("run").to_pylist())
    return Collected(
        study=study, runs=len(names), new=len(rows), gone=len(names - {run.path.name for run in runs}),
        not_final=not_final, unreadable=unreadable,
    )  # fmt: skip


def _signatures(table: Any) -> dict[str, tuple[int, int]]:
    """When each trial.json of a collection was written, and how long it was."""
    runs, times, sizes = (table.column(name).to_pylist() for name in ("run", *SIGNATURE))
    return {run: (time, size) for run, time, size in zip(runs, times, sizes, strict=True)}


def _merged(before: Any, rows: Sequence[dict[str, Any]]) -> Any:
    """A collection with these rows, in the place of those that it has of the same runs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fresh = as_table(rows)
    if before is None:
        return fresh.sort_by("run")
    kept = before.filter(pc.invert(pc.is_in(before.column("run"), value_set=fresh.column("run").combine_chunks())))
    return pa.concat_tables([kept.replace_schema_metadata(None), fresh]).sort_by("run")
