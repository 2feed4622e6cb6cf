"""How a command answers: on one console, a user's mistake in one line, never with a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from scalelab.errors import Refused

console = Console() if sys.stdout.isatty() else Console(width=120)  # files and logs: tables of a fixed width


@contextmanager
def answering() -> Iterator[None]:
    """A user's mistake as one line and exit status 2; an interruption as one line and 130."""
    try:
        yield
    except Refused as refused:
        Console(stderr=True).print(f"scalelab: {refused}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        line = f"scalelab: cannot read or write{where}: {error.strerror or error}"
        Console(stderr=True).print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("scalelab: interrupted; what had ended is kept, launch again for the rest")
        raise typer.Exit(130) from None
