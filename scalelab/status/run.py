"""One run folder → how its run stands.

Nothing is claimed and nothing is touched. A run is running if its newest claim is that of a living process of this
machine, or of another node's that touched it of late (`claims`); where there is no claim, if its files have changed of
late, by the pace at which it writes them.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from scalelab.claims import looks_alive
from scalelab.errors import Refused
from scalelab.jobs import CLAIM
from scalelab.models import flops_of
from scalelab.shape import Architecture, Shape
from scalelab.status.curve import Curve, curve_end
from scalelab.trials import FINAL, METRICS_FILE, SPEC_FILE, TRIAL_FILE, TRIAL_VERSION, Outcome

QUIET_SECONDS = 120.0  # assumed: what a run may take without a sign of life (imports, a validation)
QUIET_RECORDS = 10  # and how many of its own intervals between records

Files = Mapping[str, "os.DirEntry[str]"]


class State(StrEnum):
    """How a run stands. The first four are outcomes; the others have no trial yet, or run again.

    WAITING has a spec and has not begun; STOPPED has begun and is neither finished nor running: launch it again.
    """

    OK = "OK"
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"
    PRUNED = "PRUNED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    STOPPED = "STOPPED"
    UNREADABLE = "UNREADABLE"


FINAL_STATES = tuple(State(outcome) for outcome in FINAL)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run was trained, as its provenance says: what a peak is known for."""

    host: str
    device: str
    threads: int
    torch: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """One run.

    `tokens` trained, of `horizon` (None where no file says); `flops` and `seconds` are those that its last
    attempt has paid for, by the conventions of a `Trial`. `flops_left` is what a run that is running or waiting has
    before it, `flops_per_token` its size. Of one that is running, `flops_per_second` is how fast it goes now in its
    worker's time (None where that cannot be said yet), and `workers` the part of a worker that it has: its seconds, by
    the clock's.
    """

    state: State
    tokens: int = 0
    horizon: int | None = None
    flops: float = 0.0
    seconds: float = 0.0
    energy_joules: float | None = None
    machine: Machine | None = None
    flops_left: float | None = 0.0
    flops_per_token: float | None = None
    flops_per_second: float | None = None
    workers: float = 1.0

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES


def run_status(files: Files, *, now: float) -> RunStatus:
    """How a run stands at `now` (seconds since 1970), from the files of its folder."""
    plain: Any = None
    if TRIAL_FILE in files:
        plain = _plain(files[TRIAL_FILE].path)
        if not isinstance(plain, dict) or plain.get("version") != TRIAL_VERSION:
            return RunStatus(state=State.UNREADABLE)
        try:
            if plain["outcome"] != Outcome.FAILED and not (plain["outcome"] == Outcome.PRUNED and _again(files)):
                return _ended(plain)
        except (KeyError, TypeError, ValueError):
            return RunStatus(state=State.UNREADABLE)
    return _not_ended(files, plain, now=now)


def final_status(file: str) -> RunStatus | None:
    """How a run stands whose trial.json has a final trial; None where it has not, or is not to be read."""
    plain = _plain(file)
    if not isinstance(plain, dict) or plain.get("version") != TRIAL_VERSION or plain.get("outcome") not in FINAL:
        return None
    try:
        return _ended(plain)
    except (KeyError, TypeError, ValueError):
        return None


def _again(files: Files) -> bool:
    """Whether a run has gone on since its trial was written."""
    return METRICS_FILE in files and files[METRICS_FILE].stat().st_mtime > files[TRIAL_FILE].stat().st_mtime


def _ended(plain: Mapping[str, Any]) -> RunStatus:
    said = plain.get("provenance", {})
    return ended(
        outcome=plain["outcome"], horizon=int(plain["spec"]["horizon"]["tokens"]),
        tokens=int(plain.get("tokens_seen", 0)), trunk=plain.get("trunk_tokens", 0), flops=plain.get("cost_flops", 0),
        seconds=plain.get("seconds", 0.0), energy=plain.get("energy_joules"),
        machine=machine(*(said.get(name) for name in ("host", "device", "threads", "torch"))),
    )  # fmt: skip


def ended(
    *, outcome: str, horizon: int, tokens: int, trunk: int, flops: float, seconds: float, energy: float | None,
    machine: Machine | None,
) -> RunStatus:  # fmt: skip
    """How a run stands that has a trial, from what that says: FLOPs of the whole run, the trunk's in them."""
    return RunStatus(
        state=State(outcome), tokens=tokens, horizon=horizon,
        flops=flops * (tokens - trunk) / tokens if tokens else 0.0,
        flops_per_token=flops / tokens if tokens else None,
        seconds=float(seconds), energy_joules=None if energy is None else float(energy), machine=machine,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def machine(host: str | None, device: str | None, threads: str | None, torch: str | None) -> Machine | None:
    """The machine that a provenance names; None where it does not say all of it."""
    if host is None or device is None or threads is None or torch is None:
        return None
    return Machine(host=host, device=device, threads=int(threads), torch=torch)


def _not_ended(files: Files, trial: Mapping[str, Any] | None, *, now: float) -> RunStatus:
    """Of a run without a trial, or with one that does not keep it from running again."""
    spec = trial["spec"] if trial is not None else _plain(files[SPEC_FILE].path) if SPEC_FILE in files else None
    horizon, per_token = _asked(spec)
    curve = curve_end(files[METRICS_FILE]) if METRICS_FILE in files else Curve()
    begun = METRICS_FILE in files or newest_claim(files) is not None
    if begun and _alive(files, curve, now=now):
        state = State.RUNNING
    elif trial is not None:
        state = State(trial["outcome"])
    else:
        state = State.STOPPED if begun else State.WAITING
    failed = trial is not None and state is State.FAILED
    left = None if horizon is None or per_token is None else float(max(0, horizon - curve.tokens) * per_token)
    rate = None if per_token is None or curve.tokens_per_second is None else per_token * curve.tokens_per_second
    return RunStatus(
        state=state, tokens=curve.tokens, horizon=horizon, flops=float(curve.tokens * (per_token or 0)),
        seconds=float(trial.get("seconds", 0.0)) if failed and trial else curve.seconds,
        flops_left=left if state in (State.RUNNING, State.WAITING) else 0.0,
        flops_per_token=per_token, flops_per_second=rate if state is State.RUNNING else None, workers=curve.workers,
    )  # fmt: skip


def _alive(files: Files, curve: Curve, *, now: float) -> bool:
    claimed = newest_claim(files)
    if claimed is not None:
        return looks_alive(Path(claimed.path), now=now)
    signs = [files[name].stat().st_mtime for name in (METRICS_FILE, SPEC_FILE) if name in files]
    if TRIAL_FILE in files and files[TRIAL_FILE].stat().st_mtime >= max(signs):
        return False  # the trial was the last that it wrote
    return now - max(signs) < max(QUIET_SECONDS, QUIET_RECORDS * curve.interval)


def _asked(spec: Any) -> tuple[int | None, int | None]:
    """The tokens of a spec's horizon and its FLOPs a token; None where it cannot be said."""
    try:
        shape, architecture = (tuple(sorted(spec[name].items())) for name in ("shape", "architecture"))
        return int(spec["horizon"]["tokens"]), _flops_per_token(spec["model"], shape, architecture)
    except (KeyError, TypeError, AttributeError, Refused):
        return None, None  # a spec of another version: counted, without a total


@lru_cache(maxsize=4096)
def _flops_per_token(model: str, shape: Sequence[tuple[str, Any]], architecture: Sequence[tuple[str, Any]]) -> int:
    return flops_of(model, Shape(**dict(shape)), Architecture(**dict(architecture))).six_n_attention


def _plain(file: str) -> Any:
    try:
        with open(file, "rb") as text:
            return json.loads(text.read())
    except (ValueError, FileNotFoundError, NotADirectoryError):
        return None


def newest_claim(files: Files) -> "os.DirEntry[str] | None":
    """The claim of whoever is, or was last, at work in a folder; None where it was released."""
    numbers = [name.removeprefix(f"{CLAIM}.") for name in files if name.startswith(f"{CLAIM}.")]
    newest = max((int(number) for number in numbers if number.isdecimal()), default=None)
    return None if newest is None else files[f"{CLAIM}.{newest}"]
