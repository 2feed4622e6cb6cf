"""How things are written for people: a grid, a line of prose, a number, an interval. Nothing heavier than rich."""

import math
import re
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Of Unicode too: what turns the direction of writing.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def grid(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """A table with the first `left` columns to the left and numbers to the right; no cell is ever cut."""
    title = Text(harmless(heading), style="table.title") if heading else None
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        name = Text(harmless(column))
        table.add_column(name, justify="left" if index < left else "right", overflow="fold", no_wrap=index >= left)
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    return table


def say(console: Console, text: str, style: str | None = None) -> None:
    """A line of prose, never taken for markup."""
    console.print(harmless(text), style=style, markup=False, highlight=False)


def harmless(text: str) -> str:
    r"""A text without what a terminal obeys: its control characters as Python writes them.

    >>> print(harmless("a study's name \x1b[2J, and more"))
    a study's name \x1b[2J, and more
    """
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def number(value: float | None, form: str = ".4g") -> str:
    """A number as people read it.

    >>> number(0.12345), number(float("inf")), number(None)
    ('0.1235', '∞', '—')
    """
    if value is None or math.isnan(value):
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:{form}}"


def interval(value: float | None, low: float | None, high: float | None, form: str = ".4g") -> str:
    """A value with its 95 % interval, or what bounds there are.

    >>> interval(0.5, 0.25, float("inf")), interval(None, None, 0.25), interval(None, 0.25, None)
    ('0.5 [0.25, ∞]', '≤ 0.25', '≥ 0.25')
    """
    if value is not None:
        return f"{number(value, form)} [{number(low, form)}, {number(high, form)}]"
    if low is not None and high is not None:
        return f"in [{number(low, form)}, {number(high, form)}]"
    if high is not None:
        return f"≤ {number(high, form)}"
    return "—" if low is None else f"≥ {number(low, form)}"
