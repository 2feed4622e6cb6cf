"""How a command answers: on one console, a user's mistake in one line, never with a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from scalelab.console import harmless
from scalelab.errors import Refused
from scalelab.stopping import Stopped

# Files and logs get tables of a fixed width. Nothing that is printed is markup: names come from anywhere.
console = Console(markup=False) if sys.stdout.isatty() else Console(markup=False, width=120)


@contextmanager
def answering() -> Iterator[None]:
    """A user's mistake as one line and exit status 2; an interruption as one line and 130."""
    try:
        yield
    except Refused as refused:
        line = harmless(f"scalelab: {refused}").replace("\n", "\\n")
        Console(stderr=True).print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except OSError as error:
        line = harmless(f"scalelab: {unwritten(error)}").replace("\n", "\\n")
        Console(stderr=True).print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except Stopped as stopped:
        Console(stderr=True).print("scalelab: asked to stop; what was in training is saved, launch again to go on")
        raise typer.Exit(int(stopped.code or 0)) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("scalelab: interrupted; what had ended is kept, launch again for the rest")
        raise typer.Exit(130) from None


def unwritten(error: OSError) -> str:
    """What could not be read or written, and why, in one line."""
    where = f" {error.filename}" if error.filename else ""
    return f"cannot read or write{where}: {error.strerror or error}"
