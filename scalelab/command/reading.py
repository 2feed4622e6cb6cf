"""What a command has written → records of its losses, as they appear: lines of JSON, lines of text, a W&B run."""

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scalelab.errors import Refused
from scalelab.external import Reading, compiled

CHUNK_BYTES = 1 << 20
JSON_BYTES = 1 << 16  # a longer line is not read
TEXT_CHARACTERS = 1000  # of a line, and the rest is not searched: what a pattern costs is bounded
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
PATTERN_SECONDS = 1.0  # a line that takes longer shows a pattern that is of no use
WANDB_SECONDS = 5.0  # between two looks at a W&B run, which is read as a whole


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one line says. Losses are in nats a token, and need not be finite."""

    loss: float | None = None
    validation_loss: float | None = None
    step: int | None = None
    tokens: int | None = None


class Source(Protocol):
    """Where losses appear."""

    def new(self, *, last: bool) -> Iterator[Seen]:
        """What has appeared since it was last asked; `last` says that nothing more will."""

    @property
    def searched(self) -> str:
        """Where was looked and for what, in words."""


def source_of(reading: Reading, path: Path, *, bytes_per_token: float | None) -> Source:
    """The source that a run's specification states, at a path of this machine."""
    nats = {
        "nats_per_token": 1.0,
        "bits_per_token": math.log(2),
        "bits_per_byte": math.log(2) * (bytes_per_token or math.nan),
    }[reading.unit]
    if reading.kind == "wandb":
        return WandbRun(folder=path, keys=dict(reading.keys), nats=nats)
    if reading.kind == "regex":
        return Text(lines=Lines(path=path), patterns=[compiled(each) for each in reading.patterns], nats=nats)
    return Objects(lines=Lines(path=path), keys=dict(reading.keys), nats=nats)


@dataclass(kw_only=True)
class Lines:
    """The lines of a file that is written to. One that is not ended yet is left until it is; a file that is cut short
    or put in place of another is read from its start."""

    path: Path
    count: int = 0
    _at: int = 0
    _inode: int = 0
    _rest: bytes = b""

    def new(self, *, last: bool) -> Iterator[str]:
        try:
            file = self.path.open("rb")
        except OSError:
            return
        with file:
            now = os.fstat(file.fileno())
            if now.st_size < self._at or now.st_ino != self._inode:
                self._at, self._rest, self._inode = 0, b"", now.st_ino
            file.seek(self._at)
            while chunk := file.read(CHUNK_BYTES):
                self._at += len(chunk)
                *whole, self._rest = re.split(rb"[\r\n]", self._rest + chunk)  # \r: a bar that is drawn over itself
                self._rest = self._rest[: 2 * JSON_BYTES]
                yield from self._told(whole)
        if last and self._rest:
            yield from self._told([self._rest])
            self._rest = b""

    def _told(self, lines: Sequence[bytes]) -> Iterator[str]:
        for line in lines:
            if line.strip():
                self.count += 1
                yield line[: JSON_BYTES + 1].decode(errors="replace")


@dataclass(kw_only=True)
class Objects:
    """A file of JSON objects, one a line."""

    lines: Lines
    keys: Mapping[str, str]
    nats: float
    odd: int = 0

    def new(self, *, last: bool) -> Iterator[Seen]:
        for line in self.lines.new(last=last):
            try:
                found = json.loads(line) if len(line) <= JSON_BYTES else None
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                self.odd += 1
                continue
            yield seen({name: _at(found, key) for name, key in self.keys.items()}, self.nats)

    @property
    def searched(self) -> str:
        odd = f", {self.odd} of them no JSON object" if self.odd else ""
        return f"keys {_listed(self.keys)} in {self.lines.path} ({_counted(self.lines)}{odd})"


@dataclass(kw_only=True)
class Text:
    """Lines of text in which patterns are searched for."""

    lines: Lines
    patterns: Sequence[re.Pattern[str]]
    nats: float

    def new(self, *, last: bool) -> Iterator[Seen]:
        for line in self.lines.new(last=last):
            for pattern in self.patterns:
                started = time.monotonic()
                found = pattern.search(COLOURS.sub("", line)[:TEXT_CHARACTERS])
                if time.monotonic() - started > PATTERN_SECONDS:
                    raise Refused(
                        f"trainer.metrics.patterns: {pattern.pattern!r} took over a second for one line: write it with"
                        " fewer repetitions"
                    )
                if found:
                    yield seen(found.groupdict(), self.nats)

    @property
    def searched(self) -> str:
        shown = " or ".join(repr(each.pattern) for each in self.patterns)
        return f"pattern {shown} in {self.lines.path} ({_counted(self.lines)})"


@dataclass(kw_only=True)
class WandbRun:
    """The W&B runs below a folder, one after the other as they were started."""

    folder: Path
    keys: Mapping[str, str]
    nats: float
    count: int = 0
    _next: float = 0.0
    _told: dict[Path, int] = field(default_factory=dict)

    def new(self, *, last: bool) -> Iterator[Seen]:
        from scalelab.readers.wandb_runs import wandb_files, wandb_history

        if not last and time.monotonic() < self._next:
            return
        files = wandb_files(self.folder)
        self.count = len(files)
        for file in files:
            if file.stat().st_size < 8:
                continue
            records = list(wandb_history(file))
            for record in records[self._told.get(file, 0) :]:
                yield seen({name: _at(record, key) for name, key in self.keys.items()}, self.nats)
            self._told[file] = len(records)
        self._next = time.monotonic() + WANDB_SECONDS

    @property
    def searched(self) -> str:
        records = sum(self._told.values())
        return f"keys {_listed(self.keys)} in {self.count} W&B runs below {self.folder} ({records} records)"


def seen(values: Mapping[str, Any], nats: float) -> Seen:
    """A record of what was read; what is no number is left out, NaN is one."""
    step, tokens = _count(values.get("step")), _count(values.get("tokens"))
    loss, validation = _number(values.get("loss")), _number(values.get("validation_loss"))
    return Seen(
        loss=None if loss is None else loss * nats,
        validation_loss=None if validation is None else validation * nats,
        step=step,
        tokens=tokens,
    )


def _count(value: Any) -> int | None:
    found = _number(value)
    return int(found) if found is not None and math.isfinite(found) else None


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value.replace(",", "").rstrip(".;:|") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None


def _at(found: Mapping[str, Any], key: str) -> Any:
    """The value of a key as it is written, or of a.b in nested objects."""
    if key in found:
        return found[key]
    at: Any = found
    for part in key.split("."):
        at = at.get(part) if isinstance(at, Mapping) else None
    return at


def _listed(keys: Mapping[str, str]) -> str:
    return ", ".join(repr(key) for name, key in keys.items() if name in ("loss", "validation_loss"))


def _counted(lines: Lines) -> str:
    return f"{lines.count} lines" if lines.path.exists() else "which is not there"
