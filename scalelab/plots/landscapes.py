"""The loss over learning rate and batch: a panel a scale, with its own best setting and what laws choose there."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.tri import CubicTriInterpolator, Triangulation

from scalelab.errors import Refused
from scalelab.laws import GroupLaws, Laws
from scalelab.laws.checked import checked
from scalelab.laws.draw.style import GROUP_COLOURS, at, colours, label, log_axis, panels, plain, spread
from scalelab.laws.joint.result import CellBest
from scalelab.plots.named import independent, rows_of, titles

MOST_PANELS = 9
LEVELS_PERCENT = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # over the best
SETTINGS = ("lr", "batch_tokens")
MESH = 80  # points of the interpolated surface a side
Choices = Mapping[str, Sequence[Mapping[str, float]]]


def landscapes(laws: Laws, table: pd.DataFrame, *, chosen: Choices | None = None) -> Figure:
    """Contours of the loss, in per cent over the lowest mean of seeds, over lr and batch at every scale.

    A star is the scale's own best setting by the joint fit, a cross the law's, which all scales share.

    Args:
        laws: the study.
        table: the runs behind it.
        chosen: further settings by who chose them: rows with a scale's columns, lr and batch_tokens.

    Raises:
        Refused: where no group has valleys in both settings.
    """
    found = [
        (group, cell, name)
        for group, name in zip(laws.groups, titles(laws), strict=True)
        if group.joint is not None and set(SETTINGS) <= set(group.joint.coordinates)
        for cell in group.joint.cells
        if set(SETTINGS) <= set(cell.settings)
    ]
    if not found:
        raise Refused("no scale has valleys in both lr and batch_tokens: there is no landscape to draw")
    shown = spread(found, MOST_PANELS)
    runs = checked(table)
    drawn, axes = panels(len(shown), columns=3, width=3.3, height=2.9)
    told = independent([cell.scale for _, cell, _ in found])
    for place, (axis, (group, cell, name)) in enumerate(zip(axes, shown, strict=True)):
        _draw(axis, group, cell, rows_of(runs, group))
        for order, (who, settings) in enumerate((chosen or {}).items()):
            at_scale = [each for each in settings if all(np.isclose(each[key], cell.scale[key]) for key in told)]
            axis.plot(
                [each["batch_tokens"] for each in at_scale], [each["lr"] for each in at_scale],
                ls="none", marker="Ds^v"[order % 4], ms=7, mfc="white", mec=GROUP_COLOURS[1 + order % 4], label=who,
            )  # fmt: skip
        where = ", ".join(at(key, cell.scale[key]) for key in told)
        axis.set_title(plain(where if len(laws.groups) == 1 else f"{name}, {where}"), fontsize=9)
        log_axis(axis, "x", "batch_tokens")
        log_axis(axis, "y", "lr")
        axis.set_ylabel(label("lr") if place % 3 == 0 else "")
    entries = {name: line for axis in axes for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    drawn.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawn


def _draw(axis: Axes, group: GroupLaws, cell: CellBest, rows: pd.DataFrame) -> None:
    assert group.joint is not None
    own = rows[np.logical_and.reduce([np.isclose(rows[name], value) for name, value in cell.scale.items()])]
    mean = own[own["outcome"] == "OK"].groupby(["batch_tokens", "lr"])["loss_nats"].mean()
    batch, lr = (mean.index.get_level_values(name).to_numpy(float) for name in ("batch_tokens", "lr"))
    over = 100 * (mean.to_numpy(float) / mean.min() - 1)
    levels = [level for level in LEVELS_PERCENT if level < over.max()]
    if len(mean) > 3 and levels:
        x_X, y_Y = (np.linspace(np.log2(each).min(), np.log2(each).max(), MESH) for each in (batch, lr))
        x_YX, y_YX = np.meshgrid(x_X, y_Y)
        smooth = CubicTriInterpolator(Triangulation(np.log2(batch), np.log2(lr)), over, kind="geom")
        lines = axis.contour(
            np.exp2(x_YX), np.exp2(y_YX), smooth(x_YX, y_YX), levels=levels, colors=colours(len(levels)), linewidths=0.9
        )
        axis.clabel(lines, fmt=lambda level: f"+{level:g} %", fontsize=6)
    axis.plot(batch, lr, ls="none", marker=".", ms=2.5, color="0.6", gid="runs")
    best = {name: float(np.exp(cell.settings[name][0])) for name in SETTINGS}
    axis.plot(best["batch_tokens"], best["lr"], ls="none", marker="*", ms=11, color=GROUP_COLOURS[0],
              mec="black", mew=0.6, label="its own best, by the joint fit")  # fmt: skip
    law = group.joint.predict(**{name: cell.scale[name] for name in cell.scale if name in group.joint.domain}).values
    axis.plot(law["batch_tokens"].value, law["lr"].value, ls="none", marker="x", ms=7, mew=1.8,
              color=GROUP_COLOURS[2], label="the law's")  # fmt: skip
