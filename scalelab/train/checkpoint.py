"""A run's checkpoint: one file, written atomically, read without unpickling code."""

import os
import pickle
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from scalelab.spec import RunSpec
from scalelab.train.member import State

CHECKPOINT_FILE = "checkpoint.pt"
SHARDED = "checkpoint.dcp"  # a folder: of a run in several processes (`spread`)
VERSION = 1
UNREADABLE = (
    RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def save(path: Path, state: State) -> None:
    """Write a run's state; a reader sees the old file or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save({"version": VERSION, **state}, fresh)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def load(path: Path, spec: RunSpec, device: str) -> State | None:
    """The state of a run that was begun; None where there is none that can be used.

    What is torn, or another run's, is named in a warning and set aside, and the run starts anew.
    """
    if not path.exists():
        return None
    try:
        found = _read(path, device)
        if not isinstance(found, dict) or found.get("version") != VERSION:
            problem = f"is not a checkpoint of version {VERSION}"
        elif found["fingerprint"] != spec.fingerprint:
            problem = f"is of run {found['fingerprint']}, not {spec.fingerprint}"
        else:
            return found
    except UNREADABLE as error:
        problem = f"is corrupt ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    aside = path.with_name(f"{path.name}.unusable")
    path.replace(aside)
    warnings.warn(f"{path} {problem}: kept as {aside.name}, the run starts anew", stacklevel=2)
    return None


def _read(path: Path, device: str) -> Any:
    with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
        if torn := archive.testzip():
            raise zipfile.BadZipFile(f"{torn} is not what its checksum says")
    return torch.load(path, map_location=device, weights_only=True)
