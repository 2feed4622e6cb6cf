"""The figures: learning-rate valleys, optimum against scale, coordinate checks. Each takes data and returns a Figure.

Conventions of the field: log2 axes for learning rate and scale, one sequentially coloured line a scale, a star at the
fitted optimum, diverged runs drawn as crosses at the top and not dropped, seeds as thin points.
"""

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scalelab.laws import GroupLaws, Laws, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scalelab.confirm import Confirmation
    from scalelab.probe import Check

STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "legend.frameon": False,
    "svg.hashsalt": "scalelab",
}


def figure(columns: int, *, width: float = 4.6, height: float = 3.6) -> tuple[Figure, list["Axes"]]:
    """A figure of panels side by side, made without pyplot's global state."""
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(width * columns, height), layout="constrained")
        axes = drawn.subplots(1, columns, squeeze=False)[0]
    return drawn, list(axes)


def colours(count: int) -> list[Any]:
    """Dark to light along a scale, the lightest yellow left out."""
    return [mpl.colormaps["viridis"](at) for at in np.linspace(0.0, 0.85, max(count, 1))]


def valleys(laws: Laws, table: pd.DataFrame) -> Figure:
    """Loss against learning rate, a panel a group and a line a scale, with the fitted optima."""
    drawn, axes = figure(len(laws.groups))
    finite = table.loc[table["outcome"] == "OK", "loss_nats"]
    low, high = float(finite.min()), float(finite.min() + 1.05 * (finite.quantile(0.95) - finite.min()))
    for axis, group in zip(axes, laws.groups, strict=True):
        rows = _rows(table, group)
        name = scale_of(group)
        for colour, optimum in zip(colours(len(group.optima)), group.optima, strict=True):
            at = rows[np.logical_and.reduce([rows[k] == v for k, v in optimum.scale.items()])]
            ok, diverged = at[at["outcome"] == "OK"], at[at["outcome"] == "DIVERGED"]
            axis.plot(np.log2(ok["lr"]), ok["loss_nats"], ".", ms=3, alpha=0.4, color=colour)
            mean = ok.groupby("lr")["loss_nats"].mean()
            axis.plot(np.log2(mean.index), mean, "-", color=colour, label=f"{name} {optimum.scale[name]:g}")
            if len(diverged):
                axis.plot(np.log2(diverged["lr"]), np.full(len(diverged), high), "x", color=colour, ms=6)
            if optimum.log2_lr is not None and optimum.loss_nats is not None:
                axis.plot(optimum.log2_lr, optimum.loss_nats, "*", ms=12, color=colour, mec="black", mew=0.6)
        axis.set(
            title=title(group), xlabel="log2 peak learning rate (base)", ylabel="validation loss (nats/token)",
            ylim=(low - 0.03 * (high - low), high),
        )  # fmt: skip
        axis.legend(fontsize=7)
    return drawn


def optimum_against_scale(laws: Laws) -> Figure:
    """Optimal learning rate against the scale that varies, with intervals, censored scales as arrows, and the law."""
    drawn, (axis,) = figure(1, width=5.2)
    for colour, group in zip(("C3", "C0", "C2", "C1", "C4", "C5"), laws.groups, strict=False):
        name = scale_of(group)
        for optimum in group.optima:
            x = np.log2(optimum.scale[name])
            if optimum.log2_lr is not None:
                low, high = optimum.low or optimum.log2_lr, optimum.high or optimum.log2_lr
                error = [[max(0.0, optimum.log2_lr - low)], [max(0.0, high - optimum.log2_lr)]]
                axis.errorbar(x, optimum.log2_lr, yerr=error, fmt="o", ms=4, color=colour, capsize=3)
            elif (bound := optimum.high if optimum.low is None else optimum.low) is not None:
                marker = "v" if optimum.low is None else "^"
                axis.plot(x, bound, marker, color=colour)
        fit = group.lr_fits.get("power")
        label = title(group)
        if fit is not None and list(fit.reference) == [name]:
            exponent = fit.estimates[name]
            label += f": exponent {exponent.value:+.2f} [{exponent.low:+.2f}, {exponent.high:+.2f}]"
            low, high = fit.domain[name]
            grid = np.geomspace(low, 4 * high, 40)
            others = {k: v[1] for k, v in fit.domain.items() if k != name}
            predicted = [fit.predict(**{name: at, **others}) for at in grid]
            x = np.log2(grid)
            axis.plot(x, [np.log2(p.value) for p in predicted], "-", color=colour, lw=1)
            axis.fill_between(
                x, [np.log2(p.low) for p in predicted], [np.log2(p.high) for p in predicted], color=colour, alpha=0.12
            )
            axis.axvline(np.log2(high), color="grey", lw=0.8, ls=":")
        axis.plot([], [], "-o", ms=4, color=colour, label=label)
        axis.set_xlabel(f"log2 {name} (dotted: the largest swept)")
    axis.set(title="Optimal base learning rate", ylabel="log2 optimal learning rate")
    axis.legend(fontsize=7)
    return drawn


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
    x = [np.log2(result.lr) for result in ended]
    y = [result.loss_nats or 0.0 for result in ended]
    axis.errorbar(x, y, yerr=[result.sd_nats or 0.0 for result in ended], fmt="-o", ms=4, capsize=3, color="C0")
    axis.axvline(np.log2(confirmation.recipe_lr), color="C3", label="recipe")
    axis.set(title="At the target", xlabel="log2 peak learning rate (base)", ylabel="validation loss (nats/token)")
    axis.legend(fontsize=7)
    return drawn


def title(group: GroupLaws) -> str:
    """A group by what tells it apart: its parametrization and optimizer."""
    names = [str(group.key[name]) for name in ("parametrization", "optimizer") if group.key.get(name) != "unstated"]
    return ", ".join(names) or "runs"


def _rows(table: pd.DataFrame, group: GroupLaws) -> pd.DataFrame:
    kept = table
    for name, value in group.key.items():
        if name in kept:
            kept = kept[kept[name] == value]
    return kept
