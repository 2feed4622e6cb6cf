"""Figures of checks and confirmations: does it transfer, and does it hold at the target?"""

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from scalelab.laws.draw.style import figure, log_axis

if TYPE_CHECKING:
    from scalelab.confirm import Confirmation
    from scalelab.probe import Check


def coordinate_check(check: "Check") -> Figure:
    """Size of activations and of their updates against width or depth, a line a module, the slopes in the legend."""
    drawn, axes = figure(2)
    x = np.log2(check.values)
    for axis, sizes, kind in zip(axes, (check.activation, check.update), ("activation", "update"), strict=True):
        for index, (module, slope) in enumerate(zip(check.modules, check.slopes, strict=True)):
            colour = mpl.colormaps["tab10"](index % 10)
            y = np.log2(np.maximum(sizes[:, :, -1, index], 1e-30))
            value = slope.activation if kind == "activation" else slope.update
            style = "-" if slope.passed else "--"
            axis.plot(x, y.mean(axis=1), style, marker=".", color=colour, label=f"{module} {value:+.2f}")
            axis.fill_between(x, y.min(axis=1), y.max(axis=1), color=colour, alpha=0.12)
        what = "size |x|" if kind == "activation" else "change since init |Δx|"
        axis.set(title=what, xlabel=f"log2 {check.axis}", ylabel="log2 mean absolute entry")
        axis.legend(fontsize=6, ncols=2)
    verdict = "passes" if check.passed else "FAILS"
    drawn.suptitle(f"Coordinate check of {check.parametrization} in {check.axis}: {verdict}", fontsize=10)
    return drawn


def target(confirmation: "Confirmation") -> Figure:
    """The valley at the target, with the recipe's learning rate marked and one standard deviation over seeds."""
    drawn, (axis,) = figure(1)
    ended = [result for result in confirmation.results if result.loss_nats is not None]
    x = [result.lr for result in ended]
    y = [result.loss_nats or 0.0 for result in ended]
    axis.errorbar(x, y, yerr=[result.sd_nats or 0.0 for result in ended], fmt="-o", ms=4, capsize=3, color="C0")
    axis.axvline(confirmation.recipe_lr, color="C3", label="recipe")
    axis.set_title("At the target", fontsize=10)
    axis.set_ylabel("validation loss (nats/token)")
    log_axis(axis, "x", "lr")
    axis.set_xlabel("peak learning rate (base)")
    axis.legend(fontsize=7)
    return drawn
