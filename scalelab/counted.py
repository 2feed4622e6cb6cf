"""How far something long has come, shown on a terminal once it has taken a few seconds."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
QUIET_SECONDS = 2.0
EVERY = 512  # items from one look at the clock to the next


def counted(items: Iterable[T], what: str, *, total: int | None = None, console: Console | None = None) -> Iterator[T]:
    """The same items; who waits for them sees how many there were, of `total`. Gone when all have come."""
    console = console or Console(stderr=True)
    bar = Progress(
        TextColumn(what), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    began, shown = time.monotonic(), False
    task = bar.add_task(what, total=total)
    try:
        for number, item in enumerate(items, start=1):
            yield item
            if number % EVERY == 0 and time.monotonic() - began > QUIET_SECONDS:
                if not shown:
                    shown = True
                    bar.start()
                bar.update(task, completed=number)
    finally:
        if shown:
            bar.stop()
