"""How far to trust a study, drawn: what was held out, and what the projection owes to choices nobody measured."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws import Laws
from scalelab.laws.draw.style import GROUP_COLOURS, distinct, label, panels, plain
from scalelab.plots.named import titles

MOST_ROWS = 12  # of ways to choose, the best; more cannot be read


def hold_outs(laws: Laws) -> Figure:
    """The largest scale left out: what every way of choosing a setting would have cost there, a panel a group.

    Filled points are the mean over the scales left out, hollow ones the worst.

    Raises:
        Refused: where nothing could be held out.
    """
    held = [(name, group.validation) for group, name in zip(laws.groups, titles(laws), strict=True) if group.validation]
    if not held:
        raise Refused("nothing could be held out: it takes a third scale, and a largest one that knows its own optimum")
    rows = max(min(len(found.scores), MOST_ROWS) for _, found in held)
    drawn, axes = panels(len(held), columns=2, width=4.8, height=1.1 + 0.3 * rows)
    for place, (axis, (name, found)) in enumerate(zip(axes, held, strict=True)):
        colour = GROUP_COLOURS[place % len(GROUP_COLOURS)]
        shown = found.scores[:MOST_ROWS]
        for row, score in enumerate(shown):
            axis.plot([0, score.worst_percent], [row, row], "-", color=colour, lw=1, alpha=0.4)
            axis.plot(score.worst_percent, row, "o", mfc="white", mec=colour, ms=5)
            axis.plot(score.mean_percent, row, "o", color=colour, ms=6)
        _rows(axis, [score.method for score in shown])
        widest = max(score.worst_percent for score in shown)
        axis.set_xlim(-0.03 * max(widest, 1e-3), 1.08 * max(widest, 1e-3))
        axis.set_xlabel("excess loss at the scales left out (%)")
        axis.set_title(plain(name if len(held) > 1 else ""), fontsize=9)
    return drawn


def sensitivities(laws: Laws) -> Figure:
    """How far the projection moves with each choice varied in turn; a panel a card.

    Raises:
        Refused: where nothing was varied.
    """
    cards = [
        (name, card)
        for group, name in zip(laws.groups, titles(laws), strict=True) for card in group.cards
        if len(card.variations) > 1
    ]  # fmt: skip
    if not cards:
        raise Refused("no choice was varied: there is no sensitivity to draw")
    rows = max(len(card.variations) for _, card in cards) - 1
    drawn, axes = panels(len(cards), columns=2, width=4.8, height=1.1 + 0.3 * rows)
    for axis, (name, card) in zip(axes, cards, strict=True):
        fitted, varied = card.variations[0].projected, card.variations[1:]
        for place, output in enumerate(fitted):
            points = [
                (100 * (v.projected[output] / fitted[output] - 1), row)
                for row, v in enumerate(varied)
                if output in v.projected
            ]
            colour, marker, _ = distinct(place)
            axis.plot(*zip(*points, strict=True), marker, ms=5, color=colour, alpha=0.8, label=label(output))
        axis.axvline(0.0, color="black", lw=0.8)
        _rows(axis, [variation.choice for variation in varied])
        reach = 1.15 * max([0.5, *(abs(float(x)) for line in axis.lines for x in np.asarray(line.get_xdata()))])
        axis.set_xlim(-reach, reach)
        axis.set_xlabel("change of the projected value (%)")
        axis.legend(fontsize=7, framealpha=0.7, edgecolor="none")
        axis.set_title(plain(name if len(laws.groups) > 1 else ""), fontsize=9)
    return drawn


def _rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=8)
