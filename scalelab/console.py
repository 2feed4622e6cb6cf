"""How things are written for people: a grid, a line of prose, a number, an interval. Nothing heavier than rich."""

import math
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table


def grid(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """A table with the first `left` columns to the left and numbers to the right; no cell is ever cut."""
    table = Table(title=heading, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold", no_wrap=index >= left)
    for row in rows:
        table.add_row(*row)
    return table


def say(console: Console, text: str, style: str | None = None) -> None:
    """A line of prose, never taken for markup."""
    console.print(text, style=style, markup=False, highlight=False)


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
