"""Loss laws against what they were fitted to, coefficients that cannot be told apart, and what was held out."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws import GroupLaws, Laws
from scalelab.laws.draw import curve_on, pairs, pairs_of
from scalelab.laws.draw.rows import in_unit, seen
from scalelab.laws.draw.style import GROUP_COLOURS, SYMBOLS, figure, label, log_axis, plain
from scalelab.laws.losses import floors
from scalelab.plots.named import rows_of, titles


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
    rows, _ = floors(own[own["outcome"] == "OK"], group)
    name, best = next(iter(group.loss_fits.items()))
    drawn, (left, middle, right) = figure(3, width=4.2, height=3.6)
    curve_on(left, best, rows=rows)
    left.set_title(plain(f"{name}: {best.law.form}"), fontsize=8)
    these = seen(best, rows)
    ends = [float(np.min([these.fitted_N, these.observed_N])), float(np.max([these.fitted_N, these.observed_N]))]
    middle.plot(ends, ends, "-", color="black", lw=0.8)
    middle.plot(these.fitted_N, these.observed_N, "o", ms=4, color="C0", alpha=0.7, mew=0)
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
        axis.plot(these.fitted_N, values, "o", ms=4, alpha=0.7, mew=0, color=f"C{place}", label=said)
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
    named = {name: " ~ ".join(SYMBOLS.get(part, part) for part in name.split(" ~ ")) for name in exponents}
    return pairs_of(
        {said: group.joint.estimates[name].value for name, said in named.items()},
        {said: group.joint.draws[name] for name, said in named.items()},
        title=f"joint law: {len(group.joint.draws[exponents[0]])} draws of the exponents, optimum ~ scale",
    )


def hold_outs(laws: Laws) -> Figure:
    """The largest scale predicted from the others, for each law: octaves off, and what that would have cost.

    Raises:
        Refused: where no law could be held out.
    """
    held = [
        (place, f"{name}: {law}" if len(laws.groups) > 1 else law, fit.hold_out)
        for place, (group, name) in enumerate(zip(laws.groups, titles(laws), strict=True))
        for law, fit in group.lr_fits.items()
        if fit.hold_out is not None
    ]
    if not held:
        raise Refused("no law could be held out: it takes three scales with fitted optima")
    drawn, (axis,) = figure(1, width=6.0, height=1.2 + 0.35 * len(held))
    for row, (place, _, out) in enumerate(held):
        colour = GROUP_COLOURS[place % len(GROUP_COLOURS)]
        axis.plot([0, out.error_octaves], [row, row], "-", color=colour, lw=1.5)
        axis.plot(out.error_octaves, row, "o", color=colour, ms=6)
        axis.annotate(f"{out.excess_nats:.2g} nats", (out.error_octaves, row), xytext=(0, 6),
                      textcoords="offset points", fontsize=7, ha="center")  # fmt: skip
    axis.axvline(0.0, color="black", lw=0.8)
    reach = 1.25 * max(0.5, *(abs(out.error_octaves) for _, _, out in held))
    axis.set(xlim=(-reach, reach), ylim=(len(held) - 0.4, -0.7), xlabel="octaves of learning rate that the law was off")
    axis.set_yticks(range(len(held)), [plain(name) for _, name, _ in held], fontsize=8)
    axis.set_title("The largest scale, predicted from the smaller ones", fontsize=9)
    return drawn
