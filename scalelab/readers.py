"""Readers: run folders, CSV, Parquet and JSONL → one table of trials, a row a run, in named units.

The columns are those of `COLUMNS`; a file may name its own (`--column loss_nats=val_loss`). What run folders know
beyond the table, their full specs, is kept beside it, so that a recipe can be resolved to every parameter.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scalelab.errors import Refused, unknown
from scalelab.laws.cells import COLUMNS
from scalelab.models import count_params
from scalelab.spec import RunSpec, as_plain
from scalelab.trials import RunFolder, Trial, run_folders

# What may differ between the runs of one law: the scales, the tuned hyperparameters, the seed. `base` may not.
FREE = (
    "shape.",
    "horizon.tokens",
    "horizon.batch_tokens",
    "hparams.lr",
    "hparams.weight_decay",
    "seed",
    "data.options",
)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Trials as a table with the columns of `COLUMNS` (fewer from files), and the specs behind it, if known."""

    table: pd.DataFrame
    specs: tuple[RunSpec, ...]
    sources: tuple[str, ...]

    @property
    def template(self) -> dict[str, Any] | None:
        """For each parametrization/optimizer, the plain spec of its largest run; None where the specs are unknown."""
        largest: dict[str, RunSpec] = {}
        for spec in sorted(self.specs, key=lambda spec: spec.cost_flops):
            largest[f"{spec.parametrization}/{spec.optimizer}"] = spec
        return {key: as_plain(spec) for key, spec in largest.items()} or None


def read(paths: Sequence[Path], *, columns: Mapping[str, str] | None = None) -> Runs:
    """Read trials from folders (searched for run folders) and files.

    Args:
        paths: folders, .csv, .parquet or .jsonl files.
        columns: for files, our column → theirs; the rest are taken by their own names.

    Raises:
        Refused: on a missing path, a folder without trials, a corrupt file, or runs that differ in more than a law
            can explain.
    """
    tables: list[pd.DataFrame] = []
    specs: list[RunSpec] = []
    for path in paths:
        if not path.exists():
            raise Refused(f"{path} does not exist: give run folders, .csv, .parquet or .jsonl files")
        if path.is_dir():
            trials = [(folder, folder.read()) for folder in run_folders(path)]
            if not trials:
                raise Refused(f"no finished run in {path} or below it (no trial.json): train first, or check the path")
            tables.append(pd.DataFrame([_row(folder, trial) for folder, trial in trials], columns=list(COLUMNS)))
            specs += [trial.spec for _, trial in trials]
        else:
            tables.append(_file(path, columns or {}))
    _refuse_mixture(specs)
    return Runs(
        table=pd.concat(tables, ignore_index=True), specs=tuple(specs), sources=tuple(str(path) for path in paths)
    )


def parse_columns(given: Iterable[str]) -> dict[str, str]:
    """`["loss_nats=val_loss"]` as a mapping; `Refused` on another form or an unknown column of ours."""
    found = {}
    for item in given:
        ours, equals, theirs = item.partition("=")
        if not equals or not theirs:
            raise Refused(f"--column {item!r}: accepted is NAME=THEIRS, for example loss_nats=val_loss")
        if ours not in COLUMNS:
            raise unknown("column", ours, COLUMNS)
        found[ours] = theirs
    return found


def _row(folder: RunFolder, trial: Trial) -> dict[str, Any]:
    spec = trial.spec
    return {
        "run": str(folder.path),
        "parametrization": spec.parametrization,
        "optimizer": spec.optimizer,
        "data": spec.data.name,
        "width": spec.shape.width,
        "depth": spec.shape.depth,
        "params_non_embedding": count_params(spec).non_embedding,
        "tokens": spec.horizon.tokens,
        "batch_tokens": spec.horizon.batch_tokens,
        "lr": spec.hparams.lr,
        "weight_decay": spec.hparams.weight_decay,
        "seed": spec.seed,
        "loss_nats": float("nan") if trial.loss_nats is None else trial.loss_nats,
        "outcome": str(trial.outcome),
        "cost_flops": float(trial.cost_flops),
    }


def _file(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": _jsonl}
    if path.suffix not in readers:
        raise unknown("kind of file", path.suffix or path.name, readers)
    try:
        table: pd.DataFrame = readers[path.suffix](path)  # type: ignore[operator]
    except ImportError:
        raise Refused(f"{path}: reading Parquet needs pyarrow: pip install 'scalelab[parquet]'") from None
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parse errors are ValueErrors or OSErrors
        raise Refused(f"{path} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from None
    for ours, theirs in columns.items():
        if theirs not in table:
            raise Refused(
                f"--column {ours}={theirs}: {path} has no column {theirs!r}, it has {', '.join(table.columns)}"
            )
    renamed = table.rename(columns={theirs: ours for ours, theirs in columns.items()})
    kept = [name for name in COLUMNS if name in renamed]
    if not kept:
        raise Refused(
            f"{path} has columns {', '.join(map(str, table.columns))}: needed are lr, loss_nats and one of width,"
            " depth, params_non_embedding, tokens; map yours with --column NAME=THEIRS"
        )
    return renamed[kept]


def _jsonl(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True)


def _refuse_mixture(specs: Sequence[RunSpec]) -> None:
    """Refuse runs of one parametrization and optimizer that differ in something no law here explains."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for spec in specs:
        kinds.setdefault((spec.parametrization, spec.optimizer), []).append(dict(_leaves(as_plain(spec))))
    for (parametrization, optimizer), members in kinds.items():
        first = members[0]
        for other in members[1:]:
            for key in first.keys() | other.keys():
                if first.get(key) != other.get(key) and not key.startswith(FREE):
                    raise Refused(
                        f"{parametrization}/{optimizer} runs differ in {key} ({first.get(key)!r} and"
                        f" {other.get(key)!r}): a law needs it fixed, give the runs of one value"
                    )


def _leaves(plain: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, str(plain) if isinstance(plain, list) else plain
