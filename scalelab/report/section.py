"""What a page of laws is made of. A new section is a function from `Study` to `Section`, and a line in `SECTIONS`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from scalelab.laws import GroupLaws, Laws
from scalelab.plots import titles


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under a head; a `long` one is folded away."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    @property
    def long(self) -> bool:
        """Whether it would push everything after it out of sight."""
        return len(self.rows) > 24


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure inside a page, as base64 of a PNG."""

    title: str
    caption: str
    png: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A headline with sentences, tables, figures (by their files' names) and warnings; an empty one is left out."""

    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """The laws with the table behind them, and how the command was called."""

    laws: Laws
    runs: pd.DataFrame
    command: str
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", titles(self.laws))

    @property
    def groups(self) -> list[tuple[str, GroupLaws]]:
        """Every group with its name; without one where there is only one."""
        named = zip(self.names, self.laws.groups, strict=True)
        return [(name if len(self.names) > 1 else "", group) for name, group in named]


def said_of(name: str, text: str) -> str:
    """A sentence with the group it is about, where there are several."""
    return f"{name}: {text}" if name else text


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], caption: str = "") -> tuple[Table, ...]:
    """One table, or none where it has no rows; columns that say nothing anywhere are left out."""
    said = [k for k in range(len(head)) if any(row[k] not in ("", "—") for row in rows)]
    if not rows or not said:
        return ()
    kept = tuple(tuple(row[k] for k in said) for row in rows)
    return (Table(head=tuple(head[k] for k in said), rows=kept, caption=caption),)
