"""The kinds of sources: adding one is a file with its reader, and a line here."""

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from scalelab.errors import Refused, unknown
from scalelab.readers import optuna_study
from scalelab.readers.optuna_study import shown, without_name
from scalelab.readers.optuna_trials import file_trials, storage_trials
from scalelab.readers.parquet import parquet
from scalelab.readers.text import comma_separated, json_array, json_lines, tab_separated
from scalelab.readers.wandb_runs import wandb_file, wandb_runs

FILES: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": comma_separated,
    ".csv.gz": comma_separated,
    ".tsv": tab_separated,
    ".tsv.gz": tab_separated,
    ".parquet": parquet,
    ".jsonl": json_lines,
    ".jsonl.gz": json_lines,
    ".json": json_array,
    ".wandb": wandb_file,
}

# Files that hold named studies: study.db#name.
STUDIES: dict[str, Callable[[Path, str], pd.DataFrame]] = dict.fromkeys(optuna_study.STUDIES, file_trials)

STORAGES: dict[str, Callable[[str], pd.DataFrame]] = dict.fromkeys(("sqlite", "postgresql", "mysql"), storage_trials)

# What parsers raise (pandas' and pyarrow's errors are ValueErrors): a gzip cut short, objects nested without end.
UNREADABLE = (ValueError, OSError, EOFError, RecursionError, zlib.error)

EMPTY = {"folder": "no finished run in {} or below it (no trial.json, no W&B run): train first, or check the path"}


def frame_of(source: str) -> pd.DataFrame:
    """What a source holds, in its own columns, at least one row.

    Raises:
        Refused: where it is absent, of an unknown kind, empty, corrupt, or far too large for a table of runs.
    """
    kind, read = _reader(source)
    name = shown(source)
    try:
        frame = read()
    except Refused:
        raise
    except UnicodeDecodeError as error:
        raise Refused(
            f"{name} cannot be read as {kind}: byte {error.start} is not UTF-8, save it as UTF-8 text"
        ) from None
    except UNREADABLE as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise Refused(f"{name} cannot be read as {kind}: {said}") from None
    if frame.empty:
        raise Refused(EMPTY.get(kind, "{} has no rows: it needs one row a run").format(name))
    return frame


def _reader(source: str) -> tuple[str, Callable[[], pd.DataFrame]]:
    """The kind of a source, and what reads it."""
    if "://" in source:
        scheme = source.partition(":")[0].partition("+")[0]
        if scheme not in STORAGES:
            raise unknown("kind of storage", scheme, STORAGES)
        return scheme, partial(STORAGES[scheme], source)
    path, study = without_name(source)
    if not path.exists():
        hint = "; a storage is written sqlite:///PATH" if source.startswith("sqlite:") else ""
        raise Refused(f"{source} does not exist: give run folders, .csv, .parquet or .jsonl files{hint}")
    if path.is_dir():
        return "folder", partial(wandb_runs, path)
    suffix = ("".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix).lower()
    if suffix in STUDIES:
        return suffix[1:], partial(STUDIES[suffix], path, study)
    if suffix in FILES:
        return suffix[1:], partial(FILES[suffix], path)
    raise unknown("kind of file", suffix or path.name, (*FILES, *STUDIES))
