"""What `scalelab export` prints: the frameworks there are, and what was written with the notes that go with it."""

from collections.abc import Iterable

from rich.console import Console

from scalelab.console import grid, say
from scalelab.exporters import EXPORTERS, NOT_RIGHT, Exported


def frameworks(console: Console) -> None:
    """Every framework with its options, and those that cannot be right."""
    rows = [(name, each.title, _options(name)) for name, each in EXPORTERS.items()]
    console.print(grid("", ("--to", "writes", "--set"), rows, left=3))
    for name, reason in NOT_RIGHT.items():
        say(console, f"none to {name}: {reason}")


def exported(written: Iterable[Exported], console: Console) -> None:
    """The files of each framework, and its notes."""
    for each in written:
        say(console, f"{each.name}: {', '.join(str(file) for file in each.files)}")
        for note in each.notes:
            say(console, f"  note: {note}", "yellow")


def _options(name: str) -> str:
    return "\n".join(f"{o}={default}: {what}" for o, (default, what) in EXPORTERS[name].options.items()) or "—"
