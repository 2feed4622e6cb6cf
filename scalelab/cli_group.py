"""The command line as a whole: its commands in the order of the work, a mistyped line answered in one line."""

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from scalelab.answering import INTERRUPTED, MISTAKE, mistaken

# Panel by panel, as `--help` shows them.
LOOK, BEFORE, RUN, STANDING = "Look", "Before a sweep", "Sweep and search", "How it stands"
LAWS, HAND_OVER = "From runs to a recipe", "Confirm and hand over"
ORDER = (
    "tables", "explain", "compare", "doctor", "check", "lr-range", "train", "search", "status", "collect", "fit",
    "recommend", "confirm", "export", "report",
)  # fmt: skip


class InOrder(TyperGroup):
    """Commands in `ORDER`, others after them; what cannot be parsed is a user's mistake like any other."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, as help and completion show them."""
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; ends the process, as it does for any Typer app."""
        given = list(sys.argv[1:] if args is None else args)
        try:
            status = super().main(given, prog_name, complete_var, False, windows_expand_args, **extra)
        except TyperException as error:
            if not standalone_mode:
                raise
            if error.format_message():  # without arguments it has printed the help
                mistaken(_in_one_line(error), sys.stdout if "--json" in given else None)
            status = MISTAKE
        except (typer.Abort, KeyboardInterrupt):
            status = INTERRUPTED
        if not standalone_mode:
            return status
        sys.exit(status if isinstance(status, int) else 0)


def _in_one_line(error: TyperException) -> str:
    """What was mistyped, and who knows better."""
    context = getattr(error, "ctx", None)
    said = " ".join(error.format_message().split()).rstrip(".")
    said = said[:1].lower() + said[1:] if said[1:2].islower() else said
    command = getattr(context, "command_path", "scalelab")
    return f"{said}: see `{command} --help`"
