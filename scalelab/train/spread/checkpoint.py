"""Checkpoints of a run in several processes: each writes its parts, and one file that is replaced says which are whole.

    checkpoint.dcp/current               the name of the folder that counts
    checkpoint.dcp/<step>-<hex>/         what torch.distributed.checkpoint writes: a file a process, and an index
    checkpoint.dcp/<step>-<hex>/manifest.json  whose run it is, how far, the digests of the files

Any number of processes of any strategy reads what any other number wrote: torch.distributed.checkpoint cuts anew.
"""

import hashlib
import json
import pickle
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded

from scalelab.files import write_atomically
from scalelab.spec import RunSpec
from scalelab.train.checkpoint import CHECKPOINT_FILE, UNREADABLE
from scalelab.train.member import SO_FAR, Member, State
from scalelab.train.spread.group import Group
from scalelab.train.spread.metadata import INDEX_FILE, Reader

CURRENT, MANIFEST, VERSION = "current", "manifest.json", 1
Place = Callable[[str, torch.Size, torch.dtype], Tensor]  # where a tensor of that name is to be read to


def save(path: Path, member: Member, group: Group) -> None:
    """Write the state of a run, all processes together; what was current before is so until all of it is written."""
    tensors, plain = _taken_apart(member)
    folder = path / group.told(f"{member.step:09d}-{uuid.uuid4().hex[:8]}")
    if group.leads:
        path.mkdir(parents=True, exist_ok=True)
    with _quiet():
        save_sharded(tensors, storage_writer=FileSystemWriter(folder), no_dist=group.size == 1)
    own = [*folder.glob(f"__{group.rank}_*"), *([folder / INDEX_FILE] if group.leads else [])]
    digests = [json.loads(each) for each in group.gathered(json.dumps({file.name: _digest(file) for file in own}))]
    if group.leads:
        manifest = {
            "version": VERSION,
            "fingerprint": member.spec.fingerprint,
            "so_far": {name: getattr(member, name) for name in SO_FAR},
            "optimizer": plain,
            "files": {name: digest for each in digests for name, digest in each.items()},
        }
        write_atomically(folder / MANIFEST, json.dumps(manifest))
        write_atomically(path / CURRENT, folder.name)
        for other in path.iterdir():
            if other.is_dir() and other != folder:
                shutil.rmtree(other)
        path.with_name(CHECKPOINT_FILE).unlink(missing_ok=True)  # of one process, before


def load(path: Path, spec: RunSpec, group: Group, place: Place) -> State | None:
    """The state of a run that was begun, read by all processes; None where there is none that can be used.

    What is torn, or another run's, is named in a warning and set aside, and the run starts anew.
    """
    said = json.loads(group.told(json.dumps(_current(path, spec) if group.leads else None)))
    if said is None:
        return None
    folder, manifest, problem = path / said["folder"], said["manifest"], said["problem"]
    if not problem:
        problems = group.gathered(_torn(folder, manifest, group))
        problem = next((each for each in problems if each), "")
    if problem:
        if group.leads:
            aside = path.with_name(f"{path.name}.unusable")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            warnings.warn(f"{path} {problem}: kept as {aside.name}, the run starts anew", stacklevel=2)
        return None
    reader = Reader(folder)
    index = reader.read_metadata().state_dict_metadata
    tensors = {name: place(name, meta.size, meta.properties.dtype) for name, meta in index.items()}  # type: ignore[union-attr]
    with _quiet():
        load_sharded(tensors, storage_reader=reader, no_dist=group.size == 1)
    return _put_together(tensors, manifest)


def whole(path: Path, spec: RunSpec, device: str) -> State | None:
    """The same as the state of an ordinary run in one process."""
    return load(path, spec, Group(), lambda name, size, dtype: torch.zeros(size, dtype=dtype, device=device))


def _current(path: Path, spec: RunSpec) -> dict[str, Any] | None:
    """The checkpoint that counts and what is wrong with it; None where there is none."""
    if not (path / CURRENT).exists():
        return None
    found: dict[str, Any] = {"folder": "", "manifest": {}, "problem": ""}
    try:
        found["folder"] = (path / CURRENT).read_text()
        manifest = found["manifest"] = json.loads((path / found["folder"] / MANIFEST).read_text())
        if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
            found["problem"] = f"is not a checkpoint of version {VERSION}"
        elif manifest["fingerprint"] != spec.fingerprint:
            found["problem"] = f"is of run {manifest['fingerprint']}, not {spec.fingerprint}"
        elif missing := {*SO_FAR} - {*manifest["so_far"]}:
            found["problem"] = f"lacks {', '.join(sorted(missing))}"
    except (OSError, ValueError, KeyError) as error:
        found["problem"] = f"is corrupt ({error})"
    return found


def _torn(folder: Path, manifest: Mapping[str, Any], group: Group) -> str:
    """What is wrong with the files that this process looks at, each at some of them; "" where nothing is."""
    try:
        for name, digest in sorted(manifest["files"].items())[group.rank :: group.size]:
            if Path(name).name != name or _digest(folder / name) != digest:
                return f"is corrupt ({name} is not what its digest says)"
        if group.leads:
            Reader(folder).read_metadata()
    except (OSError, pickle.UnpicklingError, *UNREADABLE) as error:
        return f"is corrupt ({str(error) or type(error).__name__})"
    return ""


def _taken_apart(member: Member) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """A state as tensors by name, and what optimizers keep beside tensors: by parameter."""
    tensors = {f"network.{name}": value for name, value in member.network.state_dict().items()}
    plain: dict[str, dict[str, Any]] = {}
    for name, kept in member.optimizer_state(copies=False).items():
        for key, value in kept.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{name}.{key}"] = value
            else:
                plain.setdefault(name, {})[key] = value
    return tensors, plain


def _put_together(tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> State:
    optimizer: dict[str, dict[str, Any]] = {name: dict(kept) for name, kept in manifest["optimizer"].items()}
    network = {}
    for full, value in tensors.items():
        kind, _, name = full.partition(".")
        if kind == "network":
            network[name] = value
        else:
            name, _, key = name.rpartition(".")
            optimizer.setdefault(name, {})[key] = value
    return {
        "fingerprint": manifest["fingerprint"], **manifest["so_far"], "network": network, "optimizer": optimizer,
    }  # fmt: skip


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that one process is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
