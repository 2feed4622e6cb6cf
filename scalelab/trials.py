"""Trials: what happened when a spec was run, kept one folder a run, and read back as one table.

A run folder holds `trial.json` (written once, atomically, when the run has ended) and `metrics.jsonl` (appended as it
goes). Our files are the truth; whatever else tracks a run is a copy.
"""

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.spec import RunSpec, as_plain, from_plain

TRIAL_FILE = "trial.json"
SPEC_FILE = "spec.json"  # the spec alone, `as_plain`, there from the start of a run
METRICS_FILE = "metrics.jsonl"
HALF_WRITTEN = (f".{TRIAL_FILE}.", ".checkpoint.pt.")  # how names begin beside their places
TRIAL_VERSION = 1


class Outcome(StrEnum):
    """OK and DIVERGED are results, and final; FAILED is the machine's doing, and is run again.

    PRUNED was stopped early by a rule; it has a checkpoint and is continued when it's launched without the rule.
    """

    OK = "OK"
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"
    PRUNED = "PRUNED"


FINAL = (Outcome.OK, Outcome.DIVERGED)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A spec with what happened.

    `loss_nats` is the validation loss over the fixed set, nats a token, None unless OK; `loss_se_nats` its standard
    error over validation sequences (not over seeds). `tokens_seen` counts training tokens, fewer than the horizon
    where the run diverged. `reason` says why it is not OK. `seconds` are its share of its worker's time: of a step, the
    wall time divided evenly among the runs trained together. `energy_joules` are its share of what the device drew in
    that time, None where it does not tell (`machine.energy`). `cost_flops` is that of the run by itself; `trunk_tokens`
    of its tokens were trained in another run, which begins as it does (`trunks`).
    """

    spec: RunSpec
    outcome: Outcome
    loss_nats: float | None
    loss_se_nats: float | None = None
    loss_bits_per_byte: float | None = None
    train_loss_nats: float | None = None
    tokens_seen: int = 0
    trunk_tokens: int = 0
    cost_flops: int = 0
    seconds: float = 0.0
    energy_joules: float | None = None
    reason: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.OK) != (self.loss_nats is not None and math.isfinite(self.loss_nats)):
            raise ValueError(f"a trial is OK if and only if its loss is finite: {self.outcome}, {self.loss_nats}")
        for name in ("tokens_seen", "trunk_tokens", "cost_flops", "seconds"):
            if not isinstance(getattr(self, name), int | float):  # NaN where another study does not say
                raise ValueError(f"{name}={getattr(self, name)!r}: accepted is a number")

    @property
    def paid_flops(self) -> float:
        """Its cost without what another run has trained for it."""
        own = self.tokens_seen - self.trunk_tokens
        return self.cost_flops * own / self.tokens_seen if self.tokens_seen else 0.0

    @property
    def flops_per_second(self) -> float | None:
        """Achieved FLOP/s of its share of the worker, validation in the time and not in the FLOPs; None without time.

        Counted as its cost is, `FlopCount.six_n_attention`.
        """
        return self.paid_flops / self.seconds if self.seconds > 0 else None


FIELDS = tuple(f.name for f in fields(Trial))
REQUIRED = {f.name for f in fields(Trial) if f.default is MISSING and f.default_factory is MISSING}
Plain = dict[str, Any]  # a trial.json, parsed


@dataclass(frozen=True)
class RunFolder:
    """Where one run's files are. Any number of readers, one writer."""

    path: Path

    def final(self, spec: RunSpec) -> Trial | None:
        """The trial of `spec` here, if it is final (OK or DIVERGED); `Refused` where the folder is another run's."""
        trial = self.read() if (self.path / TRIAL_FILE).exists() else None
        if trial is not None and trial.spec.fingerprint != spec.fingerprint:
            raise Refused(f"{self.path} holds run {trial.spec.fingerprint}, not {spec.fingerprint}: use another folder")
        return trial if trial is not None and trial.outcome in FINAL else None

    def read(self) -> Trial:
        """The trial of this folder; `Refused` where the file is missing, corrupt or of another version."""
        return trial_of(self.plain(), self.path / TRIAL_FILE)

    def plain(self) -> Plain:
        """What `read` reads, as JSON has it: all fields that there must be, of this version."""
        return plain_in(str(self.path))

    def announce(self, spec: RunSpec) -> None:
        """Say what is to be run here, for whoever looks before there is a trial; OSError where that cannot be."""
        if (self.path / SPEC_FILE).exists():
            if not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(self.path))
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / SPEC_FILE, json.dumps(as_plain(spec)) + "\n")

    def write(self, trial: Trial) -> None:
        """Put a trial here, atomically: a reader sees the whole file or none."""
        plain = as_plain(trial) | {"version": TRIAL_VERSION, "fingerprint": trial.spec.fingerprint}
        write_atomically(self.path / TRIAL_FILE, json.dumps(plain, indent=1, allow_nan=False) + "\n")

    def next_attempt(self) -> int:
        """The number of the attempt that starts now, for whoever alone may write here.

        What a killed writer left is mended: a torn line is ended, half-written files are removed.
        """
        for name in os.listdir(self.path):
            if name.startswith(HALF_WRITTEN):
                (self.path / name).unlink(missing_ok=True)
        file = self.path / METRICS_FILE
        if not file.exists():
            return 1
        with file.open("rb+") as tail:
            if tail.seek(0, os.SEEK_END) and tail.seek(-1, os.SEEK_END) is not None and tail.read() != b"\n":
                tail.write(b"\n")
        earlier = self.metrics()
        return 1 + (earlier[-1]["attempt"] if earlier else 0)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line to the metrics of this run; what is not finite is written as null."""
        with (self.path / METRICS_FILE).open("a") as file:
            kept = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
            file.write(json.dumps(kept, allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The curve of this run, of its last attempt and of those that it went on from; torn lines are left out.

        Raises:
            Refused: on a file that is not such a curve.
        """
        file = self.path / METRICS_FILE
        records: list[dict[str, Any]] = []
        if not file.exists():
            return records
        for line in file.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the torn line of a killed writer; what follows it belongs to the next attempt
            if not (isinstance(record, dict) and {"attempt", "step"} <= record.keys()):
                raise Refused(f"{file} is no curve of a run ({line[:40]!r}): remove that folder and run it again")
            last = records[-1] if records else record
            again = record["attempt"] != last["attempt"]
            if record["step"] < last["step"] + again:  # begun anew, or from a checkpoint before these
                records = [earlier for earlier in records if earlier["step"] < record["step"]]
            records.append(record)
        return records


def plain_in(folder: str) -> Plain:
    """See `RunFolder.plain`."""
    file = f"{folder}{os.sep}{TRIAL_FILE}"
    try:
        with open(file, "rb") as text:
            plain = json.loads(text.read())
    except FileNotFoundError:
        raise Refused(f"no {TRIAL_FILE} in {folder}: the run has not ended, or this is no run folder") from None
    except ValueError as error:  # JSON and Unicode errors alike
        raise Refused(f"{file} is corrupt ({error}): remove that folder and run it again") from None
    version = plain.get("version") if isinstance(plain, dict) else None
    if isinstance(version, int) and version > TRIAL_VERSION:
        raise Refused(
            f"{file} is a trial of version {version}, of a later scalelab: this one reads version {TRIAL_VERSION},"
            " upgrade it"
        )
    if version != TRIAL_VERSION:
        raise Refused(f"{file} is not a trial of version {TRIAL_VERSION}: was it written by another scalelab?")
    if lacking := REQUIRED - plain.keys():  # the others came later than the first trials
        raise Refused(f"{file} lacks {', '.join(sorted(lacking))}: remove that folder and run it again")
    found: Plain = plain
    return found


def trial_of(plain: Plain, source: object) -> Trial:
    """The trial that `RunFolder.plain` found; `Refused`, with its source, where its values cannot be one's.

    Fields that it has beyond ours are of a later scalelab, which would have raised the version if they mattered.
    """
    values = {name: plain[name] for name in FIELDS if name in plain}
    try:
        return Trial(**{**values, "spec": from_plain(plain["spec"]), "outcome": Outcome(plain["outcome"])})
    except (KeyError, TypeError, ValueError) as error:  # a spec of another version is Refused, a ValueError
        raise Refused(f"{source} is not a trial ({error}): remove that folder and run it again") from None


def run_folders(root: Path) -> Iterator[RunFolder]:
    """Every folder at or below `root` that holds a trial, sorted by path; what is below such a folder is its own."""
    if os.path.exists(root / TRIAL_FILE):  # asked first: most folders are runs', and listing one takes longer
        yield RunFolder(root)
        return
    for entry in folders_in(listed(root)):
        yield from run_folders(root / entry.name)


def folders_in(entries: "Mapping[str, os.DirEntry[str]]") -> "Iterator[os.DirEntry[str]]":
    """The folders among what is listed, by name; hidden ones and links are not followed."""
    for name, entry in sorted(entries.items()):
        if not name.startswith(".") and entry.is_dir(follow_symlinks=False):
            yield entry


def listed(folder: Path | str) -> "dict[str, os.DirEntry[str]]":
    """What is in a folder, by name; nothing where it was removed since its parent was listed."""
    try:
        with os.scandir(folder) as listing:
            return {entry.name: entry for entry in listing}
    except FileNotFoundError:
        return {}
