"""One configuration at several sizes and seeds: what a check and a range test are asked about, and where they write."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from scalelab.errors import Refused
from scalelab.plan import plan
from scalelab.spec import RunSpec


def sizes(axis: str, listed: str, *, least: int) -> list[int]:
    """`"64,128"` as whole numbers in rising order, at least so many of them."""
    try:
        values = sorted({int(size) for size in listed.split(",")})
    except ValueError:
        raise Refused(f"--{axis}s {listed!r}: accepted are whole numbers separated by commas") from None
    if len(values) < least:
        raise Refused(f"--{axis}s {listed!r}: a slope needs two sizes or more")
    return values


def refuse_keys(overrides: Sequence[str], keys: Collection[str], why: str) -> None:
    """`Refused`, because of what `why` says, where one of the keys is among the overrides."""
    for override in overrides:
        if override.split("=")[0].lstrip("+") in keys:
            raise Refused(f"{override}: {why}")


def specs_along(
    axis: str, values: Sequence[int], overrides: Sequence[str], *, seeds: int, directories: Sequence[str], command: str
) -> list[list[RunSpec]]:
    """For each size the spec of every seed; `Refused` where the overrides ask a command for more than one run each."""
    found = []
    for value in values:
        given = [*overrides, f"{axis}={value}", f"seed={','.join(map(str, range(seeds)))}"]
        runs = plan(given, multirun=True, directories=directories).runs
        if len(runs) != seeds:  # they would be averaged over as if they were seeds
            raise Refused(f"{len(runs)} runs for {seeds} seeds: {command} takes one value a key, and no study")
        found.append([run.spec for run in runs])
    return found


def refuse_unwritable(out: Path) -> None:
    """`Refused` where `out` can be no folder to write to: asked before the work, not after it."""
    if out.exists() and not out.is_dir():
        raise Refused(f"-o {out} is a file: accepted is a folder, made where it is not there")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise Refused(f"-o {out}: {there} is no folder that can be written to")
