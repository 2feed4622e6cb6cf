"""Draws of parameters in pairs: which coefficients the data cannot tell apart, and how far each may lie."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws.draw.style import GROUP_COLOURS, log_axis, panels, plain
from scalelab.laws.fitted import Fit
from scalelab.laws.law import Array

MOST = 6  # parameters; more panels cannot be read
WIDE = 8.0  # ratio of the outer draws beyond which an axis is logarithmic
INNER = (0.5, 99.5)  # per cent of the draws that the axes span


def pairs(fit: Fit, *, most: int = MOST) -> Figure:
    """Draws of a fit's parameters against one another, each one's distribution on the diagonal.

    Raises:
        Refused: where no parameter was fitted.
    """
    points = {name: e.value for name, e in fit.estimates.items()}
    return pairs_of(points, fit.draws, title=f"{fit.law.name}: {len(fit.draws['scatter'])} draws", most=most)


def pairs_of(
    points: Mapping[str, float], draws: Mapping[str, tuple[float, ...]], *, title: str, most: int = MOST
) -> Figure:
    """The same of any named draws; those that do not vary are left out, and beyond `most` the last."""
    drawn_D = {name: np.array(draws[name]) for name in points if name in draws}
    finite = {name: draw_D[np.isfinite(draw_D)] for name, draw_D in drawn_D.items()}
    varying = {name: draw_D for name, draw_D in finite.items() if len(set(draw_D.tolist())) > 1}
    names = list(varying)[:most]
    if not names:
        raise Refused(f"{title}: no parameter was fitted, so there are no draws to show")
    count = len(names)
    size = {"width": 1.9, "height": 1.6} if count > 2 else {"width": 2.6, "height": 2.2}
    drawn, axes = panels(count * count, columns=count, **size)
    limits = {name: _limits(varying[name], points[name]) for name in names}
    for place, axis in enumerate(axes):
        row, column = divmod(place, count)
        x, y = names[column], names[row]
        if column > row:
            _correlation(axis, drawn_D[x], drawn_D[y], limits[x], limits[y])
            continue
        if column == row:
            _marginal(axis, varying[x], points[x], limits[x])
        else:
            axis.plot(drawn_D[x], drawn_D[y], ".", ms=2, alpha=0.5, color=GROUP_COLOURS[0])
            axis.plot(points[x], points[y], "+", color=GROUP_COLOURS[1], ms=9, mew=1.5)
            axis.set_ylim(limits[y])
        axis.set_xlim(limits[x])
        _axis(axis, "x", limits[x], named=x if row == count - 1 else None)
        if column < row:
            _axis(axis, "y", limits[y], named=y if column == 0 else None)
    left = f" (the first {count} of {len(varying)} parameters)" if len(varying) > count else ""
    drawn.suptitle(plain(f"{title}{left}"), fontsize=10)
    return drawn


def _limits(draw_D: Array, point: float) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(draw_D, INNER))
    low, high = min(low, point), max(high, point)
    if low > 0 and high / low > WIDE:
        return low / 1.1, high * 1.1
    room = 0.05 * (high - low) or 1e-12
    return low - room, high + room


def _log(limits: tuple[float, float]) -> bool:
    return limits[0] > 0 and limits[1] / limits[0] > WIDE


def _axis(axis: Axes, which: str, limits: tuple[float, float], *, named: str | None) -> None:
    if _log(limits):
        log_axis(axis, "x" if which == "x" else "y", "", named=False)
    else:
        axis.locator_params(axis="x" if which == "x" else "y", nbins=3)
    (axis.set_xlabel if which == "x" else axis.set_ylabel)(plain(named or ""))
    axis.tick_params(labelsize=7)
    if named is None and which == "x":
        axis.tick_params(labelbottom=False)
    if named is None and which == "y":
        axis.tick_params(labelleft=False)


def _marginal(axis: Axes, draw_D: Array, point: float, limits: tuple[float, float]) -> None:
    bins = np.geomspace(*limits, 25) if _log(limits) else np.linspace(*limits, 25)
    axis.hist(draw_D, bins=bins.tolist(), color=GROUP_COLOURS[0], alpha=0.4)
    axis.axvline(point, color=GROUP_COLOURS[1], lw=1.3)
    for edge in np.percentile(draw_D, [2.5, 97.5]):
        axis.axvline(float(edge), color=GROUP_COLOURS[0], lw=0.9, ls="--")
    axis.set_yticks([])


def _correlation(
    axis: Axes, x_D: Array, y_D: Array, x_limits: tuple[float, float], y_limits: tuple[float, float]
) -> None:
    axis.set_axis_off()
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (np.log(d) if _log(of) else d for d, of in ((x_D, x_limits), (y_D, y_limits)))
    both = np.isfinite(a) & np.isfinite(b)
    value = float(np.corrcoef(a[both], b[both])[0, 1])
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8 + 6 * abs(value), "color": "0.35"}
    axis.text(0.5, 0.5, f"{value:+.2f}", transform=axis.transAxes, **style)
