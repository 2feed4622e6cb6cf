"""`lr-range` as the command line runs it: a configuration at several widths, the range test, its files."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from scalelab import lr_range as room
from scalelab import report, show_lr_range
from scalelab.errors import Refused
from scalelab.overrides import split_flags
from scalelab.plots.ranges import lr_range as draw
from scalelab.sizes import refuse_keys, refuse_unwritable, sizes, specs_along

STATED = {
    "width": "--widths says which",
    "seed": "--seeds says how many",
    **dict.fromkeys(("lr", "lr_factor"), "--lowest and --highest say which learning rates"),
}
KIND = "lr_range"


def lr_range(
    arguments: Sequence[str],
    *,
    widths: str,
    lowest: float,
    highest: float,
    steps: int,
    seeds: int,
    out: Path,
    console: Console,
) -> dict[str, Any]:
    """The range test of the configuration that the arguments state, printed and written as JSON and a figure.

    Returns:
        What its file holds, and that file, `written`.

    Raises:
        Refused: on arguments that are not accepted, or a range without bounds in it.
    """
    overrides, multirun, directories = split_flags(arguments)
    if multirun:
        raise Refused("lr-range takes no -m: give --widths")
    for key, why in STATED.items():
        refuse_keys(overrides, (key,), why)
    for name, value in (("lowest", lowest), ("highest", highest)):
        if not 0 < value < math.inf:
            raise Refused(f"--{name} {value:g}: accepted is a learning rate above 0")
    if lowest >= highest:
        raise Refused(f"--lowest {lowest:g} is not below --highest {highest:g}: exchange them, or leave one out")
    refuse_unwritable(out)
    # With the highest as its peak, an independent weight decay is resolved for the learning rates that are run.
    specs = specs_along(
        "width", sizes("width", widths, least=1), [*overrides, f"lr={highest}"],
        seeds=seeds, directories=directories, command="lr-range",
    )  # fmt: skip
    found = room.lr_range(specs, lowest=lowest, steps=steps, console=console)
    show_lr_range.lr_range(found, console)
    report.write_check(found, out, kind=KIND, draw=draw)
    written = f"{out}/{KIND}_{found.parametrization}_{found.axis}.json"
    console.print(f"written: {written} and its figure", highlight=False)
    return found.as_plain() | {"written": written}
