"""Figures and checks on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from scalelab import plots
from scalelab.files import write_atomically


def save(figure: Figure, folder: Path, name: str) -> None:
    """A figure as NAME.svg and NAME.png; the same data give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(plots.STYLE):  # its salt, which names what an SVG refers to
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # keeps the layout found, which takes as long as the drawing
        figure.savefig(folder / f"{name}.png", dpi=150)


def write_check(
    found: Any, folder: Path, *, kind: str = "check", draw: Callable[[Any], Figure] = plots.coordinate_check
) -> None:
    """A check's JSON and its figure, named by kind, parametrization and axis so that several stand in one folder."""
    name = f"{kind}_{found.parametrization}_{found.axis}"
    write_atomically(folder / f"{name}.json", json.dumps(found.as_plain(), indent=1, allow_nan=False) + "\n")
    save(draw(found), folder, name)
