"""Readers: anybody's runs → one table of trials, a row a run, in named units.

Run folders, CSV, Parquet, JSON, W&B exports and run folders, Optuna studies. The columns are those of `COLUMNS`; a file
may name its own (`--column loss_nats=val_loss`), and what is guessed from well-known names, converted, derived or left
out is said beside the table. What run folders know beyond it, their full specs, is kept, so that a recipe can be
resolved to every parameter.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scalelab.laws.columns import COLUMNS
from scalelab.readers.checks import checked
from scalelab.readers.choose import chosen
from scalelab.readers.folders import CONVENTIONS, folder_runs, refuse_mixture
from scalelab.readers.join import joined
from scalelab.readers.kinds import frame_of
from scalelab.readers.optuna_study import shown
from scalelab.readers.request import Constant, parse_columns
from scalelab.readers.runs import Runs
from scalelab.readers.tracked import tracked_runs
from scalelab.readers.units import in_our_units


def read(paths: Sequence[str | Path], *, columns: Mapping[str, str | Constant] | None = None) -> Runs:
    """Read trials from folders (searched for run folders, ours or W&B's), files and Optuna storages.

    Args:
        paths: folders; files of a kind in `kinds.FILES`; storage URLs as text (`sqlite:///study.db#name`), for a
            `Path` would lose one of their slashes.
        columns: for what is not our run folders, our column → theirs, or a `Constant` for every row. The rest are
            taken by our own names, or guessed from well-known ones: see `Runs.guessed`.

    Raises:
        Refused: on a missing path, a folder without trials, a corrupt file, columns that are ambiguous or contradict
            each other, or runs that differ in more than a law can explain.
    """
    found = [_one(str(path), columns or {}) for path in paths]
    refuse_mixture([spec for runs in found for spec in runs.specs])
    return joined(found)


def _one(source: str, columns: Mapping[str, str | Constant]) -> Runs:
    if Path(source).is_dir():
        table, specs = folder_runs(Path(source))
        if specs:  # whatever else stands beside a trial.json is a copy
            return Runs(table=table, specs=specs, sources=(source,), conventions=CONVENTIONS)
        table, specs = tracked_runs(Path(source))
        if specs:
            return Runs(table=table, specs=specs, sources=(source,), conventions=CONVENTIONS)
    return checked(in_our_units(chosen(shown(source), frame_of(source), columns))).runs()


__all__ = ["COLUMNS", "Constant", "Runs", "parse_columns", "read"]
