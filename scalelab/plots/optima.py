"""The best learning rate, batch and time scale against scale: two-stage optima, and the joint law with its band.

A row a group and a column a scale where groups have several; where one scale varied, all groups share one panel.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws import GroupLaws, Laws, Optimum
from scalelab.laws.draw.style import at, colours, distinct, label, log_axis, panels, plain, spread
from scalelab.laws.joint.result import CellBest
from scalelab.plots.curves import Band, Path, joint_band, path_of, theory_line, two_stage_band
from scalelab.plots.linked import OPTIMUM, anchors, points
from scalelab.plots.named import cells_of, independent, titles

MOST_GROUPS = 4  # rows; the others say so
MOST_LINES = 5
TEXT = {"lr": "optimal peak learning rate", "batch_tokens": "optimal batch (tokens)", "tau": "optimal time scale τ"}


def optimum_against_scale(laws: Laws, *, linked: bool = False) -> Figure:
    """Optima against every scale that varied on its own.

    Points are the two-stage optima with 95 % intervals, arrows those of which only a bound is known; lines are the law
    (the joint one, the two-stage one where there is none), their band is 95 % for a new scale's own optimum, dotted
    lines theory, where a table claims a transfer.

    Args:
        laws: the study.
        linked: points lead to the rows of their optima, by their places in the laws.

    Raises:
        Refused: where no group has an optimum.
    """
    named = [(g, name) for g, name in zip(laws.groups, titles(laws), strict=True) if cells_of(g)]
    if not named:
        raise Refused("no group has a swept learning rate: there is no optimum to draw")
    scales = {name: _scales(group) for group, name in named}
    if all(len(scales[name]) == 1 and _coordinates(group) == ["lr"] for group, name in named):
        drawn = _together(named, scales)
    else:
        drawn = _apart(named, scales)
    if linked:
        _link(drawn, laws)
    return drawn


def _link(drawn: Figure, laws: Laws) -> None:
    """Links over the optima that are drawn as points, each on its own axis by what is at that place."""
    every = [o for group in laws.groups for o in group.optima]
    for axis in drawn.axes:
        if axis.get_gid() is None:
            continue
        coordinate, scale = str(axis.get_gid()).split(" ")
        if coordinate != "lr":
            continue
        places = {
            (float(x), float(y))
            for bar in axis.containers if isinstance(bar, ErrorbarContainer) and bar.lines[0] is not None
            for x, y in zip(*(np.asarray(d, dtype=float) for d in bar.lines[0].get_data()), strict=True)
        }  # fmt: skip
        here = [n for n, o in enumerate(every) if o.lr is not None and (o.scale.get(scale), o.lr) in places]
        at = [every[n] for n in here]
        points(axis, [o.scale[scale] for o in at], [o.lr or 0.0 for o in at], anchors(OPTIMUM, here), size=7,
               color="black", alpha=0.0)  # fmt: skip


def _apart(named: Sequence[tuple[GroupLaws, str]], scales: Mapping[str, list[str]]) -> Figure:
    """A row a group and hyperparameter, a column a scale."""
    shown = named[:MOST_GROUPS]
    places = [(group, name, q, x) for group, name in shown for q in _coordinates(group) for x in scales[name]]
    across = max(len(scales[name]) for _, name in shown)
    drawn, axes = panels(len(places), columns=across, width=4.8 if across < 3 else 3.4, height=3.4)
    for axis, (group, name, coordinate, scale) in zip(axes, places, strict=True):
        law = _spread_over(axis, group, coordinate, scale, [x for x in scales[name] if x != scale])
        axis.set_title("\n".join([*([plain(name)] if len(named) > 1 else []), law]), fontsize=7.5)
    if len(shown) < len(named):
        drawn.suptitle(f"{len(shown)} of {len(named)} groups", fontsize=10)
    return drawn


def _scales(group: GroupLaws) -> list[str]:
    found = [name for name in independent(cells_of(group)) if name not in ("batch_tokens", "weight_decay")]
    return found[:3] or [next(iter(cells_of(group)[0]))]


def _coordinates(group: GroupLaws) -> list[str]:
    return ["lr"] if group.joint is None else list(group.joint.coordinates)


def _together(named: Sequence[tuple[GroupLaws, str]], scales: Mapping[str, list[str]]) -> Figure:
    """All groups in one panel for each scale, a colour a group."""
    each = list(dict.fromkeys(scales[name][0] for _, name in named))
    drawn, axes = panels(len(each), columns=2, width=7.2 if len(each) == 1 else 4.8, height=4.0)
    for axis, scale in zip(axes, each, strict=True):
        for place, (group, name) in enumerate(named):
            if scales[name][0] != scale:
                continue
            colour, marker, dash = distinct(place)
            _points(axis, group.optima, scale, colour, marker)
            path = path_of(cells_of(group), scale, {})
            said = name
            if (band := joint_band(group, "lr", path) or two_stage_band(group, path)) is not None:
                said += f": {band.words}"
                _band(axis, band, path, colour, dash=dash)
                _theory(axis, group, path, band)
            axis.plot([], [], ls=dash, marker=marker, ms=4, color=colour, label=plain(said))
        _finish(axis, "lr", scale)
    return drawn


def _spread_over(axis: Axes, group: GroupLaws, coordinate: str, scale: str, others: Sequence[str]) -> str:
    """One group and one scale; a colour a value of the next other scale, a line for some of them. The law in words."""
    cells = cells_of(group)
    other = others[0] if others else None
    values = sorted({cell[other] for cell in cells}) if other else [0.0]
    shades = dict(zip(values, colours(len(values)), strict=True))
    if group.joint is None or (len({o.scale.get("batch_tokens") for o in group.optima}) <= 1 and coordinate == "lr"):
        for value in values:
            _points(axis, [o for o in group.optima if other is None or o.scale[other] == value], scale, shades[value])
    else:  # the optimum beside the best batch, which no single batch's valley shows
        for cell in group.joint.cells:
            _own_best(axis, cell, coordinate, scale, shades[cell.scale[other] if other else 0.0])
    shown = spread(values, MOST_LINES)
    for value in shown:
        path = path_of(cells, scale, {} if other is None else {other: value})
        band = joint_band(group, coordinate, path) or (two_stage_band(group, path) if coordinate == "lr" else None)
        if band is not None:
            _band(axis, band, path, shades[value], banded=value in (shown[0], shown[-1]))
            if coordinate == "lr" and value == shown[len(shown) // 2]:
                _theory(axis, group, path, band)
        axis.plot([], [], "-o", ms=4, color=shades[value], label=at(other, value) if other else None)
    _finish(axis, coordinate, scale)
    law = joint_band(group, coordinate, path_of(cells, scale, {}))
    return "" if law is None else law.words


def _own_best(axis: Axes, cell: CellBest, coordinate: str, scale: str, colour: Any) -> None:
    """What a cell's own runs say of its best setting; an interval that spans a decade says nothing and is left out."""
    log, sd = cell.settings.get(coordinate, (np.nan, np.inf))
    if 1.96 * sd < np.log(10) / 2:
        y, high = float(np.exp(log)), float(np.exp(log + 1.96 * sd))
        error = [[y - y**2 / high], [high - y]]
        axis.errorbar(cell.scale[scale], y, yerr=error, fmt="o", ms=4, color=colour, capsize=2.5, lw=1)


def _points(axis: Axes, optima: Sequence[Optimum], scale: str, colour: Any, marker: str = "o") -> None:
    """Fitted optima with intervals; arrows from a bound towards where the optimum must lie."""
    for o in optima:
        x, low, high = o.scale[scale], o.lr_low, o.lr_high
        if o.lr is not None:
            error = [[max(0.0, o.lr - (low or o.lr))], [max(0.0, (high or o.lr) - o.lr)]]
            axis.errorbar(x, o.lr, yerr=error, fmt=marker, ms=5, color=colour, capsize=2.5, lw=1)
        elif low is not None and high is not None:
            axis.vlines(x, low, high, color=colour, lw=2.5, alpha=0.5)
        elif low is not None:
            axis.errorbar(x, low, yerr=[[0.0], [0.6 * low]], lolims=True, fmt="_", ms=8, color=colour, lw=1)
        elif high is not None:
            axis.errorbar(x, high, yerr=[[0.4 * high], [0.0]], uplims=True, fmt="_", ms=8, color=colour, lw=1)


def _band(axis: Axes, band: Band, path: Path, colour: Any, *, banded: bool = True, dash: Any = "-") -> None:
    inside = path.x_G <= path.largest * (1 + 1e-9)
    last = int(np.flatnonzero(inside)[-1])
    axis.plot(path.x_G[: last + 1], band.value_G[: last + 1], ls=dash, color=colour, lw=1.5)
    axis.plot(path.x_G[last:], band.value_G[last:], ls=dash, color=colour, lw=0.9)
    if banded:
        axis.fill_between(path.x_G, band.low_G, band.high_G, color=colour, alpha=0.12, lw=0)
    axis.axvline(path.largest, color="0.4", lw=0.8)


def _theory(axis: Axes, group: GroupLaws, path: Path, band: Band) -> None:
    line = theory_line(group, path, band)
    if line is not None:
        axis.plot(path.x_G, line, ":", color="0.25", lw=1.6, label="theory: constant", zorder=1.5)


def _finish(axis: Axes, coordinate: str, scale: str) -> None:
    log_axis(axis, "x", scale)
    log_axis(axis, "y", coordinate)
    axis.set_ylabel(TEXT[coordinate])
    axis.set_xlabel(f"{label(scale)} (upright line: the largest swept)")
    axis.set_gid(f"{coordinate} {scale}")
    handles, names = axis.get_legend_handles_labels()
    if names:
        once = dict(zip(names, handles, strict=True))  # several groups may have the same theory
        axis.legend(once.values(), once.keys(), fontsize=8, framealpha=0.7, edgecolor="none", labelspacing=0.3)
