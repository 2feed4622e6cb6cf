"""The two ways of writing on a console: a grid and a line of prose. Nothing heavier than rich."""

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


def interval(value: float | None, low: float | None, high: float | None, form: str = ".4g") -> str:
    """`value [low, high]`, or what bounds there are: `≤ high`, `≥ low`."""
    if value is not None and low is not None and high is not None:
        return f"{value:{form}} [{low:{form}}, {high:{form}}]"
    if low is not None and high is not None:
        return f"in [{low:{form}}, {high:{form}}]"
    if high is not None:
        return f"≤ {high:{form}}"
    return "—" if low is None else f"≥ {low:{form}}"
