"""How a command answers: people on one console, programs by one JSON object; a user's mistake in one line.

With `--json` standard output holds that object and nothing else: whatever is printed on the way, by whom it may be,
goes to standard error. A mistake is `{"error": …}` there, and the same line for people.
"""

import contextlib
import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import IO, Annotated, Any, Literal, Protocol

import typer
from rich.console import Console

from scalelab.console import harmless
from scalelab.errors import Refused
from scalelab.stopping import Stopped

FINE, NO, MISTAKE, INTERRUPTED = 0, 1, 2, 130  # exit statuses, see HELP
UNREAD = 128 + signal.SIGPIPE  # nobody reads on, as after `| head`
HELP = (
    "Exit status: 0 fine; 1 the answer is no, or runs failed; 2 a mistake in what was asked; 130 interrupted;"
    " 143 asked to stop (SIGTERM)."
)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object; all else goes to standard error.")]


class Answer(Protocol):
    """What is given JSON types and prints them where programs read; for people it does nothing."""

    def __call__(self, plain: Any, *, indent: int | None = 1) -> None: ...


def no_answer(plain: Any, *, indent: int | None = 1) -> None:
    """The answer to people."""


class _People(Console):
    def on_broken_pipe(self) -> None:  # rich would end with 1, as a command does whose answer is no
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(UNREAD)


def console_for_people(*, stderr: bool = False) -> Console:
    """A console. Files and logs get tables of a fixed width; nothing that is printed is taken for markup.

    Colours are for terminals, and for pipes where FORCE_COLOR asks for them; NO_COLOR has the last word.
    """
    if (sys.stderr if stderr else sys.stdout).isatty():
        return _People(markup=False, stderr=stderr)
    coloured: Literal["standard"] | None = "standard" if os.environ.get("FORCE_COLOR") else None
    return _People(markup=False, width=120, stderr=stderr, force_terminal=False, color_system=coloured)


console = console_for_people()


@contextmanager
def answering(as_json: bool = False) -> Iterator[Answer]:
    """A command's body. What it is given answers with JSON types, and does nothing for people.

    A user's mistake is one line and exit status 2, an interruption one line and 130.
    """
    with _kept_free(as_json) as answers:
        try:
            yield partial(print_json, file=answers) if as_json else no_answer
        except Refused as refused:
            mistaken(str(refused), answers if as_json else None)
            raise typer.Exit(MISTAKE) from None
        except BrokenPipeError as error:
            if _unread():
                raise typer.Exit(UNREAD) from None
            mistaken(unwritten(error), answers if as_json else None)
            raise typer.Exit(MISTAKE) from None
        except OSError as error:
            mistaken(unwritten(error), answers if as_json else None)
            raise typer.Exit(MISTAKE) from None
        except Stopped as stopped:
            _said("asked to stop; what was in training is saved, launch again to go on")
            raise typer.Exit(int(stopped.code or 0)) from None
        except KeyboardInterrupt:
            _said("interrupted; what had ended is kept, launch again for the rest")
            raise typer.Exit(INTERRUPTED) from None


def print_json(plain: Any, file: IO[str] | None = None, *, indent: int | None = 1) -> None:
    """One strict JSON value, in several lines, or in one; an unknown number is null, a boundless one the text "inf"."""
    typer.echo(json.dumps(strict(plain), indent=indent, ensure_ascii=False, allow_nan=False), file=file)


def strict(plain: Any) -> Any:
    """JSON types without the numbers that JSON has not, as laws.json has them.

    >>> strict({"sd_nats": math.nan, "interval": (0.5, math.inf)})
    {'sd_nats': None, 'interval': [0.5, 'inf']}
    """
    if isinstance(plain, Mapping):
        return {str(key): strict(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [strict(value) for value in plain]
    if isinstance(plain, float) and not math.isfinite(plain):
        return None if math.isnan(plain) else str(plain)
    return plain


def mistaken(line: str, answers: IO[str] | None = None) -> None:
    """Say in one line what was wrong: in red for people, and where programs read as their answer."""
    told = harmless(f"scalelab: {line}").replace("\n", "\\n")
    console_for_people(stderr=True).print(told, style="red", highlight=False, soft_wrap=True)
    if answers is not None:
        print_json({"error": line}, answers)


def unwritten(error: OSError) -> str:
    """What could not be read or written, and why, in one line."""
    where = f" {error.filename}" if error.filename else ""
    return f"cannot read or write{where}: {error.strerror or error}"


def _said(line: str) -> None:
    console_for_people(stderr=True).print(f"scalelab: {line}", highlight=False, soft_wrap=True)


def _unread() -> bool:
    """Whether it is our standard output that nobody reads on, as after `| head`; then nothing more is written there."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


@contextmanager
def _kept_free(as_json: bool) -> Iterator[IO[str]]:
    """Standard output for the answer alone: what Python or a process of ours writes there goes to standard error."""
    if not as_json:
        yield sys.stdout
        return
    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        answers: IO[str] = sys.stdout
        with contextlib.suppress(OSError):  # of a test's, which is no file
            shared = sys.stdout.fileno()
            kept = os.dup(shared)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, shared)
            os.dup2(sys.stderr.fileno(), shared)
            answers = stack.enter_context(os.fdopen(os.dup(kept), "w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield answers
