"""A learning-rate range test: loss against the rising learning rate, a line a width."""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from scalelab.laws.draw.style import colours, figure, log_axis

if TYPE_CHECKING:
    from scalelab.lr_range import LrRange


def lr_range(found: "LrRange") -> Figure:
    """Thin lines are the loss of single steps, thick ones the smoothed; triangles the bounds, dots the steepest fall.

    The band is the union of the bounds.
    """
    drawn, (panel,) = figure(1, width=6.4, height=4.0)
    panel.axvspan(*found.union, color="black", alpha=0.06, lw=0)
    for each, colour in zip(found.widths, colours(len(found.widths)), strict=True):
        curve, at = each.curve, each.bounds
        panel.plot(curve.lr_T, curve.loss_T, lw=0.6, alpha=0.4, color=colour)
        panel.plot(curve.lr_T, curve.smooth_T, lw=1.6, color=colour, label=f"width = {each.width}")
        for lr, marker in ((at.lower, ">"), (at.steepest, "o"), (at.upper, "<")):
            panel.plot(lr, curve.smooth_T[curve.lr_T.searchsorted(lr)], marker, ms=7, color=colour, mec="white")
    low, high = found.union
    panel.set_title(f"{found.parametrization}: lr between {low:.2g} and {high:.2g}")
    panel.set_ylabel("training loss (nats/token)")
    log_axis(panel, "x", "lr", named=False)
    panel.set_xlabel(f"learning rate, rising over {found.steps} steps")
    panel.legend(fontsize=7, frameon=False)
    return drawn
