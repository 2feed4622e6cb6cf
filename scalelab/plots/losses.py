"""Loss laws against what they were fitted to, and coefficients that cannot be told apart."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws import GroupLaws
from scalelab.laws.carried import floors
from scalelab.laws.draw import curve_on, pairs, pairs_of
from scalelab.laws.draw.rows import in_unit, seen
from scalelab.laws.draw.style import GROUP_COLOURS, SYMBOLS, distinct, label, log_axis, panels, plain
from scalelab.plots.named import rows_of


def loss_law(group: GroupLaws, runs: pd.DataFrame) -> Figure:
    """The best loss law over its rows, observed against fitted, and what every law leaves over.

    Args:
        group: a group with a loss law.
        runs: checked runs, the group's among them.

    Raises:
        Refused: where the group has no loss law.
    """
    if not group.loss_fits:
        raise Refused("no loss law was fitted to this group: there is none to draw")
    own = rows_of(runs, group)
    rows = floors(own[own["outcome"] == "OK"], group.joint, group.optima)
    name, best = next(iter(group.loss_fits.items()))
    drawn, (left, middle, right) = panels(3, columns=3, width=3.25, height=3.1)
    curve_on(left, best, rows=rows)
    left.set_title(plain(f"{name}: {best.law.form}"), fontsize=8)
    these = seen(best, rows)
    ends = [float(np.min([these.fitted_N, these.observed_N])), float(np.max([these.fitted_N, these.observed_N]))]
    middle.plot(ends, ends, "-", color="black", lw=0.8)
    middle.plot(these.fitted_N, these.observed_N, "o", ms=4, color=GROUP_COLOURS[0], alpha=0.7, mew=0)
    middle.set_title(f"R² {best.search.r2:.4f}" if best.search is not None else "", fontsize=8)
    log_axis(middle, "x", best.law.output)
    log_axis(middle, "y", best.law.output)
    middle.set(xlabel=f"fitted {label(best.law.output)}", ylabel=f"observed {label(best.law.output)}")
    _left_over(right, group, rows)
    return drawn


def _left_over(axis: Axes, group: GroupLaws, rows: pd.DataFrame) -> None:
    for place, (name, fit) in enumerate(group.loss_fits.items()):
        these = seen(fit, rows)
        values, unit = in_unit(fit, these.residual_N)
        rms = float(np.sqrt((values**2).mean()))
        said = f"{name}: rms {rms:.2g} %"
        colour, marker, _ = distinct(place)
        axis.plot(these.fitted_N, values, marker, ms=4, alpha=0.7, mew=0, color=colour, label=said)
        axis.set_ylabel(f"residual ({unit})")
    axis.axhline(0.0, color="black", lw=0.8)
    log_axis(axis, "x", "loss_nats")
    axis.set_xlabel(f"fitted {label('loss_nats')}")
    axis.legend(fontsize=7, frameon=False)


def loss_pairs(group: GroupLaws) -> Figure:
    """Bootstrap draws of the best loss law's coefficients, in pairs.

    Raises:
        Refused: where the group has no loss law.
    """
    if not group.loss_fits:
        raise Refused("no loss law was fitted to this group: there are no draws to show")
    return pairs(next(iter(group.loss_fits.values())))


def optimum_pairs(group: GroupLaws) -> Figure:
    """Draws of the joint law's exponents, in pairs.

    Raises:
        Refused: where the group has no joint law.
    """
    if group.joint is None:
        raise Refused(f"no joint law of this group: {group.not_fitted.get('joint', 'it has no learning rates')}")
    exponents = [name for name in group.joint.estimates if " ~ " in name and "curvature" not in name]
    if len(exponents) < 2:
        raise Refused(f"{len(exponents)} exponent: there is no pair to draw")
    named = {name: " ~ ".join(SYMBOLS.get(part, part) for part in name.split(" ~ ")) for name in exponents}
    return pairs_of(
        {said: group.joint.estimates[name].value for name, said in named.items()},
        {said: group.joint.draws[name] for name, said in named.items()},
        title=f"joint law: {len(group.joint.draws[exponents[0]])} draws of the exponents, optimum ~ scale",
    )
