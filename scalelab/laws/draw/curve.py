"""The curve of a law: its output against one input, with the interval, and where it leaves what was measured."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelab.errors import Refused, unknown
from scalelab.laws.draw.rows import Seen, seen
from scalelab.laws.draw.style import GROUP_COLOURS, at, colours, figure, log_axis, plain, spread
from scalelab.laws.fitted import Fit

GRID = 60
LINES = 5  # of a second input: more bands than this cannot be told apart


def curve(fit: Fit, *, rows: pd.DataFrame | None = None, over: str | None = None, reach: float = 4.0) -> Figure:
    """The output against one input, the others held; dashed beyond the domain.

    Args:
        fit: the fit.
        rows: what it was fitted to, drawn as points; a second input then has a line for some of its values.
        over: the input; left out, the one that varied most.
        reach: how far beyond the largest value the curve is drawn, as a factor.

    Raises:
        Refused: on an unknown input, rows that lack one, or a law without inputs.
    """
    drawn, (axis,) = figure(1, width=5.2, height=3.8)
    curve_on(axis, fit, rows=rows, over=over, reach=reach)
    axis.set_title(plain(f"{fit.law.name}: {fit.law.form}"), fontsize=9)
    return drawn


def curve_on(
    axis: Axes, fit: Fit, *, rows: pd.DataFrame | None = None, over: str | None = None, reach: float = 4.0
) -> None:
    """The same, on an axis of a larger figure."""
    if not fit.reference:
        raise Refused(f"{fit.law.name} has no inputs here: there is no curve to draw")
    if over is not None and over not in fit.reference:
        raise unknown("input", over, fit.reference)
    spans = {name: fit.domain[name][1] / fit.domain[name][0] for name in fit.reference}
    along = over or max(spans, key=lambda name: spans[name])
    held = {name: float(np.sqrt(fit.domain[name][0] * fit.domain[name][1])) for name in fit.reference if name != along}
    these = None if rows is None else seen(fit, rows)
    second = max(held, key=lambda name: spans[name], default=None)
    if these is None or second is None or spans[second] == 1:
        if these is not None:
            axis.plot(these.inputs[along], these.observed_N, "o", ms=4, color="black", alpha=0.6, mew=0, zorder=3)
        words = ", ".join(at(name, value) for name, value in held.items())
        _line(axis, fit, along, held, reach, GROUP_COLOURS[0], words)
    else:
        _family(axis, fit, along, second, held, these, reach)
    axis.axvline(fit.domain[along][1], color="grey", lw=0.8, ls=":")
    log_axis(axis, "x", fit.columns.get(along, along))
    log_axis(axis, "y", fit.law.output)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=7, frameon=False)


def _family(
    axis: Axes, fit: Fit, along: str, second: str, held: Mapping[str, float], these: Seen, reach: float
) -> None:
    """A line for some values of a second input, every point in the colour of its own value."""
    values = np.unique(these.inputs[second])
    shown = spread(values.tolist(), LINES)
    logs = np.log(values)
    place = (np.log(these.inputs[second]) - logs[0]) / (logs[-1] - logs[0])
    shades = colours(101)
    axis.scatter(
        these.inputs[along], these.observed_N, s=16, lw=0, alpha=0.8, zorder=3,
        c=[shades[round(100 * p)] for p in place],
    )  # fmt: skip
    for value in shown:
        colour = shades[round(100 * float((np.log(value) - logs[0]) / (logs[-1] - logs[0])))]
        outer = value in (shown[0], shown[-1])  # bands of all would hide one another
        _line(axis, fit, along, {**held, second: value}, reach, colour, at(second, value), band=outer)


def _line(
    axis: Axes, fit: Fit, along: str, held: Mapping[str, float], reach: float, colour: Any, words: str, *,
    band: bool = True,
) -> None:  # fmt: skip
    low, high = fit.domain[along]
    x_G = np.geomspace(low, reach * high, GRID)
    predicted = [fit.predict(**{**held, along: float(x)}) for x in x_G]
    value_G = np.array([p.value for p in predicted])
    inside_G = x_G <= high * (1 + 1e-9)
    last = int(np.flatnonzero(inside_G)[-1])
    axis.plot(x_G[: last + 1], value_G[: last + 1], "-", color=colour, lw=1.4, label=words or None)
    axis.plot(x_G[last:], value_G[last:], "--", color=colour, lw=1.2)
    if band:
        low_G, high_G = [p.low for p in predicted], [p.high for p in predicted]
        axis.fill_between(x_G, low_G, high_G, color=colour, alpha=0.12, lw=0)
