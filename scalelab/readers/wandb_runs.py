"""W&B run folders (wandb/offline-run-*/run-*.wandb): the config and the last summary of every run.

The file is LevelDB's log format: blocks of 32 KiB of records (checksum, length, whether whole, first, middle or last),
each a protobuf message. wandb has no public reader of it (0.31 lacks even the private one that older ones had); its
messages are its own.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from scalelab.errors import Refused
from scalelab.readers.nested import flat

MAGIC = b":W&B\xe1\xbe\x00"
BLOCK_BYTES = 32 * 1024
HEAD = struct.Struct("<IHB")  # checksum, length, kind
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def wandb_runs(folder: Path) -> pd.DataFrame:
    """A row a run below `folder`: run, state, config.*, summary.*; empty where there is none.

    Of a run that was resumed, which W&B keeps in several folders, the last counts.

    Raises:
        Refused: without wandb, and on a corrupt file.
    """
    found = {(run["project"], run["id"]): run for run in map(wandb_run, wandb_files(folder))}
    return pd.concat([_frame(run) for run in found.values()], ignore_index=True) if found else pd.DataFrame()


def wandb_files(folder: Path) -> list[Path]:
    """The logs of all runs below a folder in the order of time: their folders are (offline-)run-DATE_TIME-ID."""
    return sorted(folder.rglob("run-*.wandb"), key=lambda file: (file.parent.name.removeprefix("offline-"), str(file)))


def wandb_file(path: Path) -> pd.DataFrame:
    """One run, as `wandb_runs` has it."""
    return _frame(wandb_run(path))


def wandb_run(path: Path) -> dict[str, Any]:
    """One run: project, id, run (its name), state, and the nested config and summary.

    A run that did not say how it ended was killed, or still runs: its state is "running".

    Raises:
        Refused: without wandb, and on a corrupt file.
    """
    record_of = _record_type(path)
    config = _object(path.parent / "files" / "config.yaml")
    summary = _object(path.parent / "files" / "wandb-summary.json")
    project, id, name, state = "", path.stem, path.stem, "running"
    for message in _messages(path):
        record = record_of(message)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            project, id = f"{record.run.entity}/{record.run.project}", record.run.run_id or id
            name = record.run.display_name or record.run.run_id or name
            _update(config, record.run.config.update)
            _update(summary, record.run.summary.update)
        elif kind == "config":
            _update(config, record.config.update)
        elif kind == "summary":
            _update(summary, record.summary.update)
        elif kind == "exit":
            state = "failed" if record.exit.exit_code else "finished"
    return {"project": project, "id": id, "run": name, "state": state, "config": config, "summary": summary}


def _frame(run: dict[str, Any]) -> pd.DataFrame:
    return flat(pd.DataFrame([{name: run[name] for name in ("run", "state", "config", "summary")}]))


def wandb_history(path: Path) -> Iterator[dict[str, Any]]:
    """What one run has logged so far, a record a step, `_step` among its values; refused as `wandb_file` is."""
    record_of = _record_type(path)
    for message in _messages(path):
        record = record_of(message)
        if record.WhichOneof("record_type") == "history":
            values: dict[str, Any] = {}
            _update(values, record.history.item)
            yield {"_step": record.history.step.num} | values


def _record_type(path: Path) -> Callable[[bytes], Any]:
    """What reads a message as W&B's record."""
    try:
        from google.protobuf.message import DecodeError
        from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made when it is imported
    except ImportError:
        raise Refused(f"{path}: reading W&B run folders needs wandb: pip install 'scalelab[wandb]'") from None

    def read(message: bytes) -> Any:
        try:
            return Record.FromString(message)
        except DecodeError as error:
            raise Refused(f"{path} is corrupt ({error}): was it written by another wandb?") from None

    return read


def _messages(path: Path) -> Iterator[bytes]:
    """The messages of a log, up to where a killed writer left it torn."""
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise Refused(f"{path} is no W&B run: it does not begin as one")
    at, message = len(MAGIC), b""
    while at + HEAD.size <= len(data):
        if (left := BLOCK_BYTES - at % BLOCK_BYTES) < HEAD.size:
            at += left
            continue
        checksum, length, kind = HEAD.unpack_from(data, at)
        body = data[at + HEAD.size : at + HEAD.size + length]
        if len(body) < length or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            return
        if zlib.crc32(body, zlib.crc32(bytes([kind]))) != checksum:
            raise Refused(f"{path} is corrupt at byte {at}: leave that run out")
        at += HEAD.size + length
        message = body if kind in (WHOLE, FIRST) else message + body
        if kind in (WHOLE, LAST):
            yield message


def _update(values: dict[str, Any], items: Iterable[Any]) -> None:
    """Put in what a message says, at its place in the nested values."""
    for item in items:
        *outer, last = list(item.nested_key) or [item.key]
        inside = values
        for key in outer:
            deeper = inside.get(key)
            inside[key] = deeper if isinstance(deeper, dict) else {}
            inside = inside[key]
        inside[last] = json.loads(item.value_json)


def _object(path: Path) -> dict[str, Any]:
    """A config or a summary as W&B writes it beside the log (JSON is YAML); nothing where it did not."""
    try:
        read = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except (ValueError, yaml.YAMLError):
        raise Refused(f"{path} is corrupt: remove it, the run's log says the same") from None
    return read if isinstance(read, dict) else {}
