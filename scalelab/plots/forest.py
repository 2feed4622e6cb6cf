"""Findings side by side: a row each, its value with the 95 % interval, a colour a kind."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws.draw.style import distinct, figure, plain
from scalelab.replications.finding import Finding


def forest(kinds: Mapping[str, Sequence[Finding]], *, x: str, marks: Sequence[float] = (0.0,)) -> Figure:
    """A row a finding, from the top in the order given; upright lines at `marks`, what the findings are held against.

    Args:
        kinds: what a colour stands for → its findings.
        x: what the values are, in words with their unit.

    Raises:
        Refused: where there is no finding, or one that is infinite, which has no place on an axis.
    """
    rows = [(place, each) for place, found in enumerate(kinds.values()) for each in found]
    if not rows:
        raise Refused("nothing to draw: give findings, a row each")
    for _, each in rows:
        if not all(math.isfinite(end) for end in (each.value, each.low or 0.0, each.high or 0.0)):
            raise Refused(f"finding {each.name!r} is infinite: leave it out and say so")
    drawn, (axis,) = figure(1, width=6.4, height=1.0 + 0.24 * len(rows))
    for mark in marks:
        axis.axvline(mark, color="0.4", lw=0.8, zorder=1)
    for height, (place, each) in enumerate(rows):
        colour, marker, _ = distinct(place)
        low, high = (each.value if end is None else end for end in (each.low, each.high))
        error = [[max(0.0, each.value - low)], [max(0.0, high - each.value)]]
        axis.errorbar(each.value, height, xerr=error, fmt=marker, ms=5, color=colour, capsize=2.5, lw=1)
    for place, kind in enumerate(kinds):
        colour, marker, _ = distinct(place)
        axis.plot([], [], ls="", marker=marker, ms=5, color=colour, label=plain(kind))
    axis.set_yticks(range(len(rows)), [plain(each.name) for _, each in rows])
    axis.invert_yaxis()
    axis.set_xlabel(x)
    if len(kinds) > 1:
        axis.legend(fontsize=8)
    return drawn
