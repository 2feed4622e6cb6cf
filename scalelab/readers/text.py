"""Text tables: CSV, TSV, JSON and JSON lines, looked at before they are read."""

import csv
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from scalelab.errors import Refused
from scalelab.readers.nested import flat

MAX_ROWS = 5_000_000  # fitting takes a row a run: what is larger is a log, and would take the memory of the machine
SAMPLE_BYTES = 1 << 20
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def comma_separated(path: Path) -> pd.DataFrame:
    return _delimited(path, ",")


def tab_separated(path: Path) -> pd.DataFrame:
    return _delimited(path, "\t")


def json_lines(path: Path) -> pd.DataFrame:
    """One object a line, nested ones flattened: {"config": {"lr": 0.1}} is the column config.lr."""
    _sample(path)
    records = []
    for number, line in enumerate(_whole(path).split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON ({error.msg})") from None
    return _objects(records)


def json_array(path: Path) -> pd.DataFrame:
    """A list of objects, one a run."""
    _sample(path)
    records = json.loads(_whole(path))
    if not isinstance(records, list):
        raise ValueError("accepted is a list of objects, one a run")
    return _objects(records)


def refuse_size(path: Path, rows: float) -> None:
    """Refuse, before it is read, what has far more rows than anybody has runs."""
    if rows > MAX_ROWS:
        raise Refused(
            f"{path} has about {rows:.2g} rows, more than {MAX_ROWS:.2g}: fitting takes a row a run; aggregate first"
        )


def _delimited(path: Path, delimiter: str) -> pd.DataFrame:
    sample = _sample(path)
    try:
        header = next(csv.reader(io.StringIO(sample.lstrip("\r\n")), delimiter=delimiter))
    except csv.Error as error:  # which is no ValueError
        raise ValueError(str(error)) from None
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise Refused(f"{path} has two columns named {twice[0]!r}: rename one, so that each name is one column")
    if any(name.endswith("__MIN") for name in header):
        raise Refused(
            f"{path} holds the curves of a W&B panel: export the table of runs instead (Runs, download as CSV), or the"
            " runs' configs and summaries with its API"
        )
    if len(header) == 1:
        for other, called in DELIMITERS.items():
            if other != delimiter and other in header[0]:
                hint = " or name it .tsv" if other == "\t" else ""
                raise Refused(f"{path} has one column, {header[0]!r}: it is separated by {called}, use commas{hint}")
    # Not in chunks: a column would have several types, one a chunk.
    frame = pd.read_csv(path, sep=delimiter, low_memory=False)
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError("its rows have more fields than its header")
    return flat(frame)


def _sample(path: Path) -> str:
    """The beginning of a text file; refused where the whole would be too large, ValueError where it is no text."""
    with path.open("rb") as file:
        start = read = file.read(SAMPLE_BYTES)
    seen = len(read)
    if path.suffix == ".gz" and read:
        unpacking = zlib.decompressobj(wbits=31)  # gzip's header and checksum
        start = unpacking.decompress(read, SAMPLE_BYTES)
        seen -= len(unpacking.unconsumed_tail)
    if not start.strip():
        raise ValueError("it is empty")
    text = start.decode(errors="strict" if len(start) < SAMPLE_BYTES else "ignore")
    share = seen / path.stat().st_size
    # An array may stand in one line, so objects are counted there by their first key.
    key = text.split('"', 2)[1] if path.suffix == ".json" and text.count('"') > 1 else None
    refuse_size(path, (text.count(f'"{key}"') if key else text.count("\n")) / share)
    return text.removeprefix("\ufeff")


def _whole(path: Path) -> str:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return file.read().decode("utf-8-sig")


def _objects(records: list[Any]) -> pd.DataFrame:
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("accepted are objects, {name: value}, one a run")
    return flat(pd.DataFrame(records))
