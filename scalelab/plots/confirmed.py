"""Figures of checks and confirmations: does it transfer, and does it hold at the target?"""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from scalelab.laws.draw.style import distinct, figure, log_axis, plain
from scalelab.plots.linked import RESULT, anchors, points

if TYPE_CHECKING:
    from scalelab.confirm import Confirmation
    from scalelab.probe import Check


def coordinate_check(check: "Check") -> Figure:
    """Size of activations and of their updates against width or depth, a line a module, the slopes in the legend."""
    drawn, axes = figure(2, width=4.8, height=4.4)
    x = np.log2(check.values)
    for axis, sizes, kind in zip(axes, (check.activation, check.update), ("activation", "update"), strict=True):
        for index, (module, slope) in enumerate(zip(check.modules, check.slopes, strict=True)):
            colour, marker, _ = distinct(index)
            y = np.log2(np.maximum(sizes[:, :, -1, index], 1e-30))
            value = slope.activation if kind == "activation" else slope.update
            style = "-" if slope.passed else "--"
            said = f"{plain(module)} {value:+.2f}"
            axis.plot(x, y.mean(axis=1), style, marker=marker, ms=4, color=colour, label=said)
            axis.fill_between(x, y.min(axis=1), y.max(axis=1), color=colour, alpha=0.12, lw=0)
        what = "size |x|" if kind == "activation" else "change since init |Δx|"
        axis.set(xlabel=check.axis, ylabel="log2 mean absolute entry")
        axis.set_title(what, fontsize=9)
        axis.set_xticks(x, [f"{value:,}" for value in check.values])
        axis.legend(fontsize=7, ncols=3, handlelength=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    verdict = "passes" if check.passed else "FAILS"
    drawn.suptitle(f"Coordinate check of {plain(check.parametrization)} in {check.axis}: {verdict}", fontsize=10)
    return drawn


def target(confirmation: "Confirmation", *, linked: bool = False) -> Figure:
    """The losses at the target, one standard deviation over seeds; the recipe's learning rate, the valley fitted there.

    What diverged stands at the top; `linked` points lead to the rows of their learning rates.
    """
    drawn, (axis,) = figure(1, width=6.4, height=3.8)
    ended = [result for result in confirmation.results if result.loss_nats is not None]
    blue, red = distinct(0)[0], distinct(1)[0]
    x = [result.lr for result in ended]
    y = [result.loss_nats or 0.0 for result in ended]
    axis.errorbar(x, y, yerr=[result.sd_nats or 0.0 for result in ended], fmt="-o", ms=4, capsize=3, color=blue,
                  label="mean and standard deviation over seeds")  # fmt: skip
    numbers = [n for n, result in enumerate(confirmation.results) if result.loss_nats is not None]
    points(axis, x, y, anchors(RESULT, numbers) if linked else None, size=5, color=blue, zorder=3)
    lost = [result.lr for result in confirmation.results if result.loss_nats is None]
    if lost:
        axis.plot(lost, [max(y)] * len(lost), "x", ms=7, color="0.3", label="diverged")
    axis.axvline(confirmation.recipe_lr, color=red, lw=1.5, label="the recipe")
    low, best, high = (getattr(confirmation, f"valley_lr{name}") for name in ("_low", "", "_high"))
    if best is not None:
        if low is not None and high is not None:
            axis.axvspan(low, high, color="black", alpha=0.07, lw=0)
        axis.axvline(best, color="black", ls="--", lw=1.2, label="the optimum of a valley fitted here, 95 % grey")
    axis.set_ylabel("validation loss (nats/token)")
    log_axis(axis, "x", "lr")
    axis.set_xlabel("peak learning rate (base), at the target")
    axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    return drawn
