"""Points of a figure as links to the rows of a page's tables that say what they are; a page shows those on hovering."""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle
from numpy.typing import ArrayLike

RUN, OPTIMUM, RESULT, TRIAL = "row-run", "row-optimum", "row-result", "row-trial"  # followed by a number, from 0


def points(
    axis: Axes, x: ArrayLike, y: ArrayLike, rows: Sequence[str] | None, *, size: float = 4.0, **style: Any
) -> None:
    """Points of `size` (points of type), in one colour; `rows` are the anchors that they lead to, None for no links."""
    marker = style.get("marker", "o")
    # What has no face, such as a cross, is drawn by its edge.
    edge = {} if MarkerStyle(marker).is_filled() else {"linewidths": 1.3}
    drawn = axis.scatter(x, y, s=size**2, **{"linewidths": 0, **edge, **style})
    if rows is not None:
        # Of a single address matplotlib makes one link round all points.
        drawn.set_urls([f"#{row}" for row in rows])


def anchors(what: str, numbers: Iterable[int]) -> list[str]:
    """The anchors of rows.

    >>> anchors(RUN, [0, 7])
    ['row-run-0', 'row-run-7']
    """
    return [f"{what}-{number}" for number in numbers]
