"""W&B run folders (wandb/offline-run-*/run-*.wandb): the config and the last summary of every run.

The file is LevelDB's log format: blocks of 32 KiB of records (checksum, length, whether whole, first, middle or last),
each a protobuf message. wandb has no public reader of it (0.31 lacks even the private one that older ones had); its
messages are its own.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
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

    Raises:
        Refused: without wandb, and on a corrupt file.
    """
    rows = [wandb_file(file) for file in sorted(folder.rglob("run-*.wandb"))]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def wandb_file(path: Path) -> pd.DataFrame:
    """One run. A run that did not say how it ended was killed, or still runs: its state is "running"."""
    try:
        from google.protobuf.message import DecodeError
        from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made when it is imported
    except ImportError:
        raise Refused(f"{path}: reading W&B run folders needs wandb: pip install 'scalelab[wandb]'") from None
    config = _object(path.parent / "files" / "config.yaml")
    summary = _object(path.parent / "files" / "wandb-summary.json")
    name, state = path.stem, "running"
    for message in _messages(path):
        try:
            record = Record.FromString(message)
        except DecodeError as error:
            raise Refused(f"{path} is corrupt ({error}): was it written by another wandb?") from None
        kind = record.WhichOneof("record_type")
        if kind == "run":
            name = record.run.display_name or record.run.run_id or name
            _update(config, record.run.config.update)
            _update(summary, record.run.summary.update)
        elif kind == "config":
            _update(config, record.config.update)
        elif kind == "summary":
            _update(summary, record.summary.update)
        elif kind == "exit":
            state = "failed" if record.exit.exit_code else "finished"
    return flat(pd.DataFrame([{"run": name, "state": state, "config": config, "summary": summary}]))


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
