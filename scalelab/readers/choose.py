"""Which column of a file is which of ours: as told, by our own names, or guessed from well-known ones."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import NAMES, PARAMS
from scalelab.readers.draft import Draft
from scalelab.readers.names import (
    BITS,
    KNOWN,
    LABELS,
    NOT_A_LOSS,
    NOT_THE_LOSS,
    SETTINGS,
    UNSTATED_BATCH,
    spellings,
    words,
)
from scalelab.readers.numbers import numbers
from scalelab.readers.request import ACCEPTED, Constant, quantity

TEXT = ("run", *NAMES, "outcome", "seed")
OPTIONAL = ("seed", "weight_decay", "batch_tokens")  # what a fit can do without
# Our own name in somebody's file says what it says, but for log_lr, which does not say which logarithm. A loss in
# another unit gives way to one in nats.
OTHER_LOSSES = ("loss_bits", "loss_bits_per_byte")
OWN = tuple(name for name in ACCEPTED if name not in ("log_lr", *OTHER_LOSSES))


def chosen(source: str, frame: pd.DataFrame, columns: Mapping[str, str | Constant]) -> Draft:
    """The draft of a file.

    Raises:
        Refused: where a column that was told is absent or holds no numbers, or where two columns could be meant.
    """
    draft = _told(Draft(source=source, columns={}, theirs={}), frame, columns)
    settled = {quantity(name) for name in columns}
    for name in OWN:
        if name in frame and quantity(name) not in settled:
            draft = _taken(draft, frame, name)
            settled |= {quantity(found) for found in draft.columns}
    if set(PARAMS) & draft.told:  # one count was chosen: another one would only be in its way
        settled |= set(PARAMS)
    used = {theirs for theirs in columns.values() if isinstance(theirs, str)} | set(draft.columns)
    free = [str(name) for name in frame.columns if name not in used]
    for name in KNOWN:
        if quantity(name) not in settled:
            draft = _guessed(draft, frame, name, free)
            settled |= {quantity(found) for found in draft.columns}
    for name in OTHER_LOSSES:
        if name in frame and not any(quantity(told) == "loss" for told in columns) and "loss_nats" not in draft.guessed:
            draft = _taken(draft, frame, name)
    return draft


def _told(draft: Draft, frame: pd.DataFrame, columns: Mapping[str, str | Constant]) -> Draft:
    for ours, theirs in columns.items():
        if isinstance(theirs, Constant):
            if theirs.text:
                constant: pd.Series[Any] = pd.Series(theirs.text, index=frame.index)
                draft = _read(draft, ours, constant, f"{theirs.text} in every row", must=True)
        elif theirs not in frame:
            raise Refused(
                f"--column {ours}={theirs}: {draft.source} has no column {theirs!r}, it has {listed(frame.columns)}"
            )
        else:
            draft = _read(draft, ours, frame[theirs], f"column {theirs!r}", must=True)
    return replace(draft, told=frozenset(draft.columns))


def _taken(draft: Draft, frame: pd.DataFrame, ours: str) -> Draft:
    """By our own name; a loss must be there, unless outcomes say why there is none."""
    return _read(draft, ours, frame[ours], f"column {ours!r}", must=ours == "loss_nats" and "outcome" not in frame)


def _read(draft: Draft, ours: str, values: "pd.Series[Any]", theirs: str, *, must: bool) -> Draft:
    """The draft with that column, as numbers where it is one of numbers; refused or left out where it holds none."""
    if ours in OPTIONAL and not must and (missing := int(values.isna().sum())) and missing < len(values):
        return draft.note(f"{theirs} is left out: it is empty in {missing} of {len(values)} rows")
    if ours in TEXT:
        empty = bool(values.isna().all()) and not must
        return draft.note(f"{theirs} is left out: it is empty") if empty else draft.put(ours, values, theirs)
    read = numbers(values)
    if not read.usable:
        wrong = f"holds {read.unreadable!r}" if read.unreadable else "is empty"
        if must or read.unreadable:
            raise draft.refused(
                f"{theirs} {wrong}: {ours} needs numbers (1.4B and 2e9 are read too); write --column {ours}=THEIRS with"
                f" another column, or --column {ours}:= to leave it out"
            )
        return draft.note(f"{theirs} is left out: it is empty")
    if read.interpreted:
        draft = draft.note(f"{theirs} is read as numbers, {read.interpreted!r} as {read.example:g}")
    return draft.put(ours, read.values, theirs)


def _guessed(draft: Draft, frame: pd.DataFrame, ours: str, free: Iterable[str]) -> Draft:
    ranked: dict[tuple[int, int], list[str]] = {}
    for theirs in free:
        if (rank := _rank(ours, theirs)) is None:
            continue
        if ours in LABELS and frame[theirs].isna().all():
            continue
        if ours not in LABELS and not numbers(frame[theirs]).usable:
            draft = draft.note(f"column {theirs!r} could be {ours} by its name, but holds no numbers: left out")
            continue
        ranked.setdefault(rank, []).append(theirs)
    if not ranked:
        return _by_word(draft, frame, free) if ours == "loss_nats" else draft
    best = ranked[min(ranked)]
    return _one_of(draft, frame, ours, best, "by its name")


def _rank(ours: str, theirs: str) -> tuple[int, int] | None:
    """How good a guess is, smaller is better: the tier of the name, then a summary after a config for settings."""
    found = [
        (tier, ended if ours in SETTINGS else 0)
        for spelling, ended in spellings(theirs)
        for tier, names in enumerate(KNOWN[ours])
        if spelling in names
    ]
    return min(found, default=None)


def _by_word(draft: Draft, frame: pd.DataFrame, free: Iterable[str]) -> Draft:
    """The loss where no well-known name is there: whatever has the word in its name, if that is one column."""
    said = {theirs: words(theirs) for theirs in free if not words(theirs) & (NOT_THE_LOSS | NOT_A_LOSS)}
    if any(name in frame for name in OTHER_LOSSES):
        return draft
    if bits := [theirs for theirs, these in said.items() if these & BITS]:
        raise draft.refused(
            f"column {bits[0]!r} seems to be in bits: write {option('loss_bits', bits[0])} (bits a token), or"
            f" {option('loss_bits_per_byte', bits[0])} --column bytes_per_token:=VALUE"
        )
    found = [theirs for theirs, these in said.items() if "loss" in these and numbers(frame[theirs]).usable]
    return _one_of(draft, frame, "loss_nats", found, "the only loss by its name") if found else draft


def _one_of(draft: Draft, frame: pd.DataFrame, ours: str, candidates: list[str], why: str) -> Draft:
    first, *others = candidates
    if any(not frame[first].equals(frame[other]) for other in others):
        raise draft.refused(_question(ours, candidates))
    if others:
        why += f", the same as {listed(others)}"
    draft = _read(draft, ours, frame[first], f"column {first!r}", must=False)
    return replace(draft, guessed={**draft.guessed, ours: f"{first}, {why}"})


def _question(ours: str, candidates: list[str]) -> str:
    smoothed = sum("smooth" in words(name) or "smoothed" in words(name) for name in candidates)
    hint = " (smoothed or last?)" if 0 < smoothed < len(candidates) else ""
    name = "params_non_embedding" if ours == "params" else "batch_sequences" if ours == UNSTATED_BATCH else ours
    shown = listed(map(repr, candidates), " and ") if len(candidates) == 2 else listed(map(repr, candidates))
    what = " and what it counts" if ours == "params" else ""
    return f"columns {shown} could each be {ours}: say which{what}{hint}, for example {option(name, candidates[0])}"


def option(ours: str, theirs: str) -> str:
    """What to write on a command line."""
    return f"--column {shlex.quote(f'{ours}={theirs}')}"


def listed(names: Iterable[object], separator: str = ", ", most: int = 12) -> str:
    """Names in one line, the first `most` of them."""
    given = [str(name) for name in names]
    return separator.join(given[:most]) + (f" and {len(given) - most} more" if len(given) > most else "")
