"""How things are written for people: a grid, a line of prose, a number, an interval. Nothing heavier than rich."""

import math
import re
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Of Unicode too: what turns the direction of writing.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
KWH = 3.6e6  # joules
PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

SHORT = 16  # characters of a cell that stays in one piece: a run's fingerprint is copied


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(markdown(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in (columns, *rows))
    head, *body = (f"| {' | '.join(line)} |" for line in escaped)
    return "\n".join([head, "|---" * len(columns) + "|", *body])


def grid(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """A table with the first `left` columns to the left and numbers to the right; no cell is ever cut."""
    title = Text(harmless(heading), style="table.title") if heading else None
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    texts = [[str(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        name = Text(harmless(column))
        whole = index >= left or all(len(row[index]) <= SHORT for row in texts)
        table.add_column(name, justify="left" if index < left else "right", overflow="fold", no_wrap=whole)
    for row in texts:
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


def prefixed(value: float) -> str:
    """A count with an SI prefix and three digits.

    >>> prefixed(51_200), prefixed(4.12e10), prefixed(999)
    ('51.2 k', '41.2 G', '999')
    """
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}" if value < 999.5 * size else f"{value / size:,.0f} {prefix}"
    return f"{value:.0f}"


def energy(joules: float) -> str:
    """Joules, from a hundredth of a kilowatt-hour on in those.

    >>> energy(1234.5), energy(4.5e5)
    ('1.23 kJ', '0.125 kWh')
    """
    return f"{joules / KWH:.3g} kWh" if joules >= KWH / 100 else f"{prefixed(joules)}J"


def duration(seconds: float) -> str:
    """A time in the two units that matter, what is smaller left out.

    >>> duration(42), duration(75), duration(5_400), duration(200_000)
    ('42 s', '1 min 15 s', '1 h 30 min', '2 d 7 h')
    """
    whole = round(seconds)
    for size, unit, part, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"
