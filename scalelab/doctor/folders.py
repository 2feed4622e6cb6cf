"""Folders that are written to: room, and the promises that runs and claims are built on, tried with a small file."""

import contextlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from scalelab.claims.holder import LEASE_SECONDS
from scalelab.data.cache import cache_dir
from scalelab.doctor.finding import Finding, broken, fine, warning
from scalelab.files import write_atomically

TOPIC = "folders"
GB = 1e9
LITTLE_GB = 1.0
NONE_GB = 0.02
SKEW_SECONDS = 2.0
SHARED = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse", "cifs", "smb3", "9p", "wekafs", "panfs")
SHM = Path("/dev/shm")
SHM_GB = 0.06


def folders(out: Path) -> Iterator[Finding]:
    """The folder of runs, of temporary files, of the cache; and shared memory."""
    yield from _of("runs", out, "choose another with out=… (scalelab train) or --out (scalelab doctor)")
    yield from _of("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder with room")
    yield from _of("cache", cache_dir(), "set SCALELAB_CACHE to a folder with room that can be written")
    if SHM.is_dir():
        free = shutil.disk_usage(SHM).free / GB
        seen = f"{free:.2f} GB free in {SHM}"
        yield (
            fine(TOPIC, "shared memory", seen)
            if free >= SHM_GB
            else warning(
                TOPIC, "shared memory", seen, "processes that train together need it: docker run --shm-size=1g"
            )
        )


def _of(about: str, folder: Path, advice: str) -> Iterator[Finding]:
    """A folder, or the nearest one above it that is there."""
    place = _nearest(folder)
    try:
        free = shutil.disk_usage(place).free / GB
        promised = _try(place)
    except OSError as error:
        yield broken(TOPIC, about, f"{folder}: cannot be written ({error.strerror or error})", advice)
        return
    kind = file_system(place)
    seen = f"{folder}: {free:,.1f} GB free{f', {kind}' if kind else ''}"
    if free < NONE_GB:
        yield broken(TOPIC, about, seen, f"the disk is full: {advice}")
    elif free < LITTLE_GB:
        yield warning(TOPIC, about, seen, f"little room: {advice}")
    else:
        yield fine(TOPIC, about, seen)
    if "exclusive" not in promised:
        told = "a file that may be made once was made twice"
        yield broken(TOPIC, about, f"{place}: {told}", f"two workers could train one run: {advice}")
    if "whole" not in promised:
        yield broken(TOPIC, about, f"{place}: a renamed file does not hold what was written", advice)
    skew = promised.get("ahead_seconds", 0.0)
    if abs(skew) > SKEW_SECONDS:
        told = f"{place}: its clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
        yield warning(
            TOPIC, about, told, f"claims hold {LEASE_SECONDS:.0f} s and allow for it; keep clocks equal (chrony, ntpd)"
        )
    if kind.startswith(SHARED):
        yield fine(TOPIC, about, f"{kind} is shared between machines: files appear whole and are claimed once here")


def _try(folder: Path) -> dict[str, float]:
    """Which promises the folder's file system keeps, and by how much its clock is ahead of this machine's."""
    kept: dict[str, float] = {}
    file = folder / f".scalelab-doctor-{uuid.uuid4().hex}"
    claim = file.with_name(file.name + ".claim")
    try:
        before = time.time()
        write_atomically(file, "old")
        write_atomically(file, "whole")
        if file.read_text(encoding="utf-8") == "whole":
            kept["whole"] = 1.0
        stamp = file.stat().st_mtime
        kept["ahead_seconds"] = max(0.0, stamp - time.time()) - max(0.0, before - stamp - 0.01)
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            kept["exclusive"] = 1.0
    finally:
        for made in (file, claim):
            with contextlib.suppress(OSError):
                made.unlink(missing_ok=True)
    return kept


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    absolute = folder.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.exists())


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of file system, as Linux says; "" where it does not."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    there = folder.resolve()
    kinds = {Path(fields[1].replace("\\040", " ")): fields[2] for line in lines if len(fields := line.split()) > 2}
    return next((kinds[place] for place in (there, *there.parents) if place in kinds), "")
