"""What a page is made of. A new section is a function from `Study` or `Found` to `Section`, and a line in a list."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from markupsafe import Markup

from scalelab.laws import GroupLaws, Laws
from scalelab.plots import titles

LONG_ROWS = 24
TIGHT = 26  # characters
NUMBER = re.compile(r"[≤≥±×+−-]?\s?[\d∞][\d.,e+∞−-]*(\s?(%|\[.*\]|nats|± .*))?|—|in \[.*\]")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under a head, each with an anchor where it has one; a `long` one is folded away.

    Columns named in `code` are written as code, rows in `marked` stand out.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    anchors: tuple[str, ...] = ()
    code: frozenset[str] = frozenset()
    marked: frozenset[int] = frozenset()
    folded: bool = False

    @property
    def long(self) -> bool:
        """Whether it would push everything after it out of sight."""
        return self.folded or len(self.rows) > LONG_ROWS

    @property
    def tight(self) -> tuple[bool, ...]:
        """Which columns are narrow enough never to be broken."""
        return tuple(
            all(len(line) <= TIGHT for row in self.rows for line in row[k].split("\n")) for k in range(len(self.head))
        )

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, which stand to the right."""
        return tuple(all(NUMBER.fullmatch(row[k]) for row in self.rows if row[k]) for k in range(len(self.head)))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure inside a page; one that few look at is `folded` away."""

    title: str
    caption: str
    body: Markup
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A number that a reader in a hurry looks for, with what it is and what it rests on; a `bad` one says so."""

    name: str
    value: str
    said: str
    bad: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """A headline with what stands below it, in this order; one without anything is left out.

    `figures` are names of drawings, `pictures` figures that are there already, `commands` are for a shell. `absent`
    says, of one that is left out, what would add it.
    """

    title: str
    tiles: tuple[Tile, ...] = ()
    sentences: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    absent: str = ""

    @property
    def says(self) -> bool:
        """Whether there is anything in it."""
        return any((self.tiles, self.sentences, self.commands, self.warnings, self.pictures, self.tables))

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


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


def table(
    head: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    caption: str = "",
    *,
    anchors: Sequence[str] = (),
    code: Sequence[str] = (),
    marked: Sequence[int] = (),
    folded: bool = False,
) -> tuple[Table, ...]:
    """One table, or none where it has no rows; columns that say nothing anywhere are left out."""
    said = [k for k in range(len(head)) if any(row[k] not in ("", "—") for row in rows)]
    if not rows or not said:
        return ()
    kept = tuple(tuple(row[k] for k in said) for row in rows)
    return (
        Table(
            head=tuple(head[k] for k in said), rows=kept, caption=caption, anchors=tuple(anchors),
            code=frozenset(code), marked=frozenset(marked), folded=folded,
        ),
    )  # fmt: skip
