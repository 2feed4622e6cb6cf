"""Learning-rate valleys: the runs, the fitted valleys and their bottoms, and what diverged.

A panel a group where one scale varied; where batches or several scales did, a panel a scale and a colour a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scalelab.errors import Refused
from scalelab.laws import GroupLaws, Laws, Optimum
from scalelab.laws.checked import checked
from scalelab.laws.draw.style import MARKERS, at, colours, log_axis, panels, plain, spread
from scalelab.plots.linked import OPTIMUM, RUN, anchors, points
from scalelab.plots.named import independent, rows_of, titles

MOST_PANELS = 12
FEW_PANELS = 3  # each with its own legend
MOST_NAMED = 6  # entries of a legend
REACH_OCTAVES = 2.0  # how far from its bottom a fitted valley is drawn, as far as runs are used to fit it
RUNS, LOST, OPTIMA = "runs", "diverged", "optima"  # what is drawn as points, by their group identifiers
HEADROOM = 1.4  # of the rise that most runs stay under


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one panel shows: optima of a group that differ in `inner` alone."""

    group: GroupLaws
    title: str
    inner: str
    optima: tuple[Optimum, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the runs and the valley of one scale are drawn."""

    colour: Any
    marker: str


def valleys(laws: Laws, table: pd.DataFrame, *, linked: bool = False) -> Figure:
    """Loss against learning rate, with the fitted valleys: at most `MOST_PANELS` panels, spread over the scales.

    Args:
        laws: the study.
        table: the runs behind it.
        linked: points lead to the rows of their runs and optima, by their places in the table and in the laws.

    Raises:
        Refused: where no group has learning rates, or on a table that `checked` refuses.
    """
    every = [panel for group, name in zip(laws.groups, titles(laws), strict=True) for panel in _panels(group, name)]
    if not every:
        raise Refused("no group has a swept learning rate: there is no valley to draw")
    shown = spread(every, MOST_PANELS)
    runs = checked(table)
    many = len(shown) > FEW_PANELS
    across = 3 if many else 2
    drawn, axes = panels(len(shown), columns=across, width=3.2 if many else 4.8, height=2.6 if many else 3.8)
    places = {id(o): number for number, o in enumerate(o for group in laws.groups for o in group.optima)}
    for place, (axis, panel) in enumerate(zip(axes, shown, strict=True)):
        looks = _looks(shown if many else [panel], panel.inner)
        _draw(axis, panel, rows_of(runs, panel.group), looks, places if linked else None)
        axis.set_title(plain(panel.title), fontsize=9)
        axis.set_ylabel("loss (nats/token)" if place % across == 0 else "")
        if many and place + across < len(shown):
            axis.set_xlabel("")
        if not many:
            axis.legend(handles=_named(panel.inner, looks), fontsize=8, labelspacing=0.25)
    if many:  # one legend for all, in which a colour means the same in every panel
        inners = dict.fromkeys(panel.inner for panel in shown)
        handles = [line for inner in inners for line in _named(inner, _looks(shown, inner))]
        drawn.legend(handles=handles, loc="outside lower center", ncols=MOST_NAMED, fontsize=8, frameon=False)
    if len(shown) < len(every):
        drawn.suptitle(f"{len(shown)} of {len(every)} scales", fontsize=10)
    return drawn


def _looks(shown: Sequence[Panel], inner: str) -> dict[float, Look]:
    """A colour, dark to light, and a marker for every value of what is coloured."""
    values = sorted({optimum.scale[inner] for each in shown if each.inner == inner for optimum in each.optima})
    return {
        value: Look(colour=colour, marker=MARKERS[place % len(MARKERS)])
        for place, (value, colour) in enumerate(zip(values, colours(len(values)), strict=True))
    }


def _named(inner: str, looks: Mapping[float, Look]) -> list[Line2D]:
    """Entries of a legend: some of the values, evenly."""
    return [
        Line2D([], [], color=looks[value].colour, lw=1.6, marker=looks[value].marker, ms=4, label=at(inner, value))
        for value in spread(list(looks), MOST_NAMED)
    ]


def _panels(group: GroupLaws, name: str) -> list[Panel]:
    if not group.optima:
        return []
    varied = independent([optimum.scale for optimum in group.optima]) or [next(iter(group.optima[0].scale))]
    inner, outer = varied[-1], varied[:-1]  # settings stand last: a colour a batch, where batches were swept
    by_outer: dict[tuple[float, ...], list[Optimum]] = {}
    for optimum in group.optima:
        by_outer.setdefault(tuple(optimum.scale[each] for each in outer), []).append(optimum)
    return [
        Panel(
            group=group,
            title=", ".join([*([name] if name != "runs" or not outer else []), *map(at, outer, values)]),
            inner=inner,
            optima=tuple(sorted(found, key=lambda optimum: optimum.scale[inner])),
        )
        for values, found in sorted(by_outer.items())
    ]


def _draw(
    axis: Axes, panel: Panel, rows: pd.DataFrame, looks: Mapping[float, Look], places: Mapping[int, int] | None
) -> None:
    """Runs, means and valleys of a panel; `places` are the numbers of the optima in the study, if points are links."""
    own = [
        rows[np.logical_and.reduce([rows[name] == value for name, value in optimum.scale.items()])]
        for optimum in panel.optima
    ]
    low, high = _limits(own)
    for optimum, at_scale in zip(panel.optima, own, strict=True):
        look = looks[optimum.scale[panel.inner]]
        colour = look.colour
        ok, diverged = at_scale[at_scale["outcome"] == "OK"], at_scale[at_scale["outcome"] == "DIVERGED"]
        points(axis, ok["lr"], ok["loss_nats"], None if places is None else anchors(RUN, ok.index),
               size=3.2, marker=look.marker, color=colour, alpha=0.55, gid=RUNS)  # fmt: skip
        mean = ok.groupby("log2_lr")["loss_nats"].mean()
        axis.plot(np.exp2(mean.index.to_numpy()), mean, "-", lw=0.7, alpha=0.5, color=colour)
        if len(diverged):
            top = np.full(len(diverged), high - 0.02 * (high - low))
            lost = None if places is None else anchors(RUN, diverged.index)
            points(axis, diverged["lr"], top, lost, size=5.5, marker="x", color=colour, gid=LOST)
        if optimum.lr is not None and optimum.log2_lr is not None and optimum.loss_nats is not None:
            x = np.linspace(*_reach(optimum, at_scale), 60)
            y = [optimum.loss_nats + optimum.excess_nats(float(each)) for each in x]
            axis.plot(np.exp2(x), y, "-", lw=1.6, color=colour)
            points(axis, [optimum.lr], [optimum.loss_nats],
                   None if places is None else anchors(OPTIMUM, [places[id(optimum)]]), size=9, marker="*",
                   color=colour, edgecolors="black", linewidths=0.7, zorder=4, gid=OPTIMA)  # fmt: skip
    axis.set_ylim(low, high)
    log_axis(axis, "x", "lr")


def _limits(own: list[pd.DataFrame]) -> tuple[float, float]:
    """From the lowest loss to above the rise that three quarters of the runs stay under, and every valley's bottom."""
    losses = pd.concat([rows.loc[rows["outcome"] == "OK", "loss_nats"] for rows in own])
    if losses.empty:
        return 0.0, 1.0
    bottoms = [float(rows.loc[rows["outcome"] == "OK", "loss_nats"].min()) for rows in own]
    low = float(losses.min())
    rise = max(float(losses.quantile(0.75)) - low, 1.5 * (float(np.nanmax(bottoms)) - low), 0.01)
    return low - 0.06 * HEADROOM * rise, low + HEADROOM * rise


def _reach(optimum: Optimum, rows: pd.DataFrame) -> tuple[float, float]:
    """Where a fitted valley is drawn: within its window, and within what was swept."""
    assert optimum.log2_lr is not None
    swept = rows["log2_lr"]
    return (
        max(optimum.log2_lr - REACH_OCTAVES, min(float(swept.min()), optimum.log2_lr)),
        min(optimum.log2_lr + REACH_OCTAVES, max(float(swept.max()), optimum.log2_lr)),
    )
