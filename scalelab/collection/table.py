"""The Parquet file of a study: written whole, read by columns."""

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalelab.errors import Refused
from scalelab.files import whole_file
from scalelab.trials import Trial, trial_of

if TYPE_CHECKING:
    import pyarrow as pa

COLLECTION_FILE = "trials.parquet"
VERSION = 1  # of the columns; trials have a version of their own
KEY = b"scalelab.collection"  # of the file's metadata
TEXTS = (
    "run", "fingerprint", "outcome", "parametrization", "optimizer", "model", "data", "host", "device", "threads",
    "torch", "kind", "trial",
)  # fmt: skip
WHOLES = (
    "modified_ns", "bytes", "width", "depth", "params_non_embedding", "tokens", "batch_tokens", "seed", "tokens_seen",
    "trunk_tokens",
)  # fmt: skip
NUMBERS = ("lr", "weight_decay", "loss_nats", "cost_flops", "flops_per_token", "seconds", "energy_joules")
FIELDS = frozenset((*TEXTS, *WHOLES, *NUMBERS))
ALIKE = ("outcome", "parametrization", "optimizer", "model", "data", "host", "device", "threads", "torch", "kind")
ROWS_A_GROUP = 50_000


def collected(study: Path, columns: Sequence[str] | None = None) -> "pa.Table | None":
    """The collection in a study's folder, some of its columns or all; None where there is none.

    None also without pyarrow: all that is in it is in the run folders, and only takes longer to read there.

    Raises:
        Refused: on a file that is corrupt, of a later version, or no collection.
    """
    file = study / COLLECTION_FILE
    if not file.exists() or find_spec("pyarrow") is None:
        return None
    parquet = pyarrow_parquet(file)
    try:
        with parquet.ParquetFile(file) as opened:
            said = json.loads((opened.schema_arrow.metadata or {}).get(KEY, b"{}"))
            if said.get("version", 0) > VERSION:
                raise Refused(
                    f"{file} is a collection of version {said['version']}, of a later scalelab: this one reads version"
                    f" {VERSION}, upgrade it"
                )
            if said.get("version") != VERSION:
                raise Refused(f"{file} is no collection of runs: `scalelab collect` writes such files, move it away")
            return opened.read(None if columns is None else list(columns))
    except OSError as error:  # pyarrow's own, also of what is no Parquet
        raise Refused(f"{file} cannot be read ({_line(error)}): remove it, `scalelab collect` makes it again") from None
    except ValueError as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"{file} is corrupt ({_line(error)}): remove it, `scalelab collect` makes it again") from None


def columns_of(study: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    """These columns of a study's collection, as lists; empty lists where there is none."""
    table = collected(study, columns)
    return {name: [] if table is None else table.column(name).to_pylist() for name in columns}


def trials(study: Path, runs: Sequence[str] | None = None) -> Iterator[tuple[str, Trial]]:
    """The trials of a study's collection in full, by the names of their folders; only those of `runs` if given."""
    wanted = None if runs is None else set(runs)
    found = columns_of(study, ("run", "trial"))
    for run, text in zip(found["run"], found["trial"], strict=True):
        if wanted is None or run in wanted:
            yield run, trial_of(json.loads(text), study / COLLECTION_FILE)


def write(study: Path, table: "pa.Table") -> None:
    """Put a collection into a study's folder: whoever reads it sees the old one or the new one."""
    parquet = pyarrow_parquet(study / COLLECTION_FILE)
    marked = table.replace_schema_metadata({KEY: json.dumps({"version": VERSION}).encode()})
    with whole_file(study / COLLECTION_FILE) as file:
        parquet.write_table(
            marked, file, compression="zstd", row_group_size=ROWS_A_GROUP, use_dictionary=list(ALIKE)
        )  # fmt: skip


def as_table(rows: Sequence[dict[str, Any]]) -> "pa.Table":
    """Rows as a table of the collection's columns."""
    import pyarrow as pa

    types = {**dict.fromkeys(TEXTS, pa.string()), **dict.fromkeys(WHOLES, pa.int64()),
             **dict.fromkeys(NUMBERS, pa.float64())}  # fmt: skip
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(types.items())))


def pyarrow_parquet(file: Path) -> Any:
    """pyarrow.parquet; `Refused` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise Refused(f"{file}: collections of runs need pyarrow: pip install 'scalelab[parquet]'") from None
    return pyarrow.parquet


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
