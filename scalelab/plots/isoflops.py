"""IsoFLOP valleys: loss against size at each budget, the best sizes, and how they grow with the budget."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelab.laws.compute_optimal import Budget, IsoFlop, with_cost
from scalelab.laws.draw.curve import curve_on
from scalelab.laws.draw.style import colours, figure, label, log_axis, short, spread
from scalelab.laws.isoflop import isoflop
from scalelab.laws.isoflop_valley import Valley, valleys_of

MOST_NAMED = 7


def isoflops(table: pd.DataFrame) -> Figure:
    """Loss against parameters, a colour a FLOP budget with its best size as a star; beside it the best size by budget.

    Args:
        table: runs of one parametrization, optimizer and data, as `scalelab.laws.isoflop` takes them.

    Raises:
        Refused: what `isoflop` refuses: fewer than two budgets with a best size between the sizes tried.
    """
    found = isoflop(table)
    runs, size = with_cost(table)
    valleys = valleys_of(runs, size)[0]
    drawn, (left, right) = figure(2, width=4.9, height=3.8)
    _valleys(left, found, valleys)
    _best_sizes(right, found)
    return drawn


def _valleys(axis: Axes, found: IsoFlop, valleys: list[Valley]) -> None:
    named = spread(range(len(valleys)), MOST_NAMED)
    for place, (colour, valley, budget) in enumerate(zip(colours(len(valleys)), valleys, found.budgets, strict=True)):
        size_N = np.exp(valley.log_N)
        axis.plot(size_N, valley.loss, "o", ms=3.5, color=colour, mew=0,
                  label=f"C = {short(budget.cost_flops)}" if place in named else None)  # fmt: skip
        fine = np.linspace(valley.log_N[0], valley.log_N[-1], 80)
        curved = np.exp(valley.log_loss(fine)) if len(size_N) > 1 else np.full(80, valley.loss[0])
        axis.plot(np.exp(fine), curved, "-", lw=0.9, color=colour)
        if budget.params is not None and budget.loss_nats is not None:
            axis.plot(budget.params.value, budget.loss_nats, "*", ms=9, color=colour, mec="black", mew=0.6, zorder=4)
    log_axis(axis, "x", found.size)
    log_axis(axis, "y", "loss_nats")
    axis.legend(fontsize=7, frameon=False, labelspacing=0.3)
    axis.set_title("loss at equal compute", fontsize=9)


def _best_sizes(axis: Axes, found: IsoFlop) -> None:
    curve_on(axis, found.params)
    for colour, budget in zip(colours(len(found.budgets)), found.budgets, strict=True):
        _best_size(axis, budget, colour)
    log_axis(axis, "x", "cost_flops")
    log_axis(axis, "y", found.size)
    axis.set_ylabel(f"compute-optimal {label(found.size)}")
    a = found.params_exponent
    axis.set_title(f"N* ∝ C^{a.value:.3f} [{a.low:.3f}, {a.high:.3f}]", fontsize=9)


def _best_size(axis: Axes, budget: Budget, colour: object) -> None:
    """A best size with its interval; an arrow where the edge of the grid is best."""
    at = budget.params
    style = {"color": colour, "lw": 1}
    if at is not None:
        error = [[max(at.value - at.low, 0.0)], [max(at.high - at.value, 0.0)]]
        axis.errorbar(budget.cost_flops, at.value, yerr=error, fmt="o", ms=4, capsize=2.5, **style)  # type: ignore[arg-type]
    elif budget.status == "ABOVE":
        edge = budget.sizes[1]
        axis.errorbar(budget.cost_flops, edge, yerr=[[0.0], [0.6 * edge]], lolims=True, fmt="_", ms=8, **style)  # type: ignore[arg-type]
    elif budget.status == "BELOW":
        edge = budget.sizes[0]
        axis.errorbar(budget.cost_flops, edge, yerr=[[0.4 * edge], [0.0]], uplims=True, fmt="_", ms=8, **style)  # type: ignore[arg-type]
