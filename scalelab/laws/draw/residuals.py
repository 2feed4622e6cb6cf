"""What a law leaves over: residuals against the fitted value and every input, where a wrong form shows as a bend."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from scalelab.laws.draw.rows import in_unit, seen
from scalelab.laws.draw.style import GROUP_COLOURS, figure, label, log_axis, plain
from scalelab.laws.fitted import Fit
from scalelab.laws.law import Array


def residuals(fit: Fit, *, rows: pd.DataFrame | None = None) -> Figure:
    """Residuals with a band of ± one scatter.

    Args:
        fit: the fit.
        rows: what it was fitted to, for residuals against the fitted value and each input; a fit keeps its residuals
            and not its rows, so without them the residuals are drawn in their order and against normal quantiles.

    Raises:
        Refused: where the rows lack an input or the output.
    """
    if rows is None:
        drawn, axes = figure(2)
        values, unit = in_unit(fit, np.array(fit.residuals))
        _scattered(axes[0], fit, np.arange(1.0, len(values) + 1), values)
        axes[0].set_xlabel("row, in order")
        quantiles = stats.norm.ppf((np.arange(len(values)) + 0.5) / max(len(values), 1))
        _scattered(axes[1], fit, quantiles, np.sort(values))
        axes[1].set_xlabel("normal quantile")
    else:
        these = seen(fit, rows)
        values, unit = in_unit(fit, these.residual_N)
        drawn, axes = figure(1 + len(these.inputs), width=3.6, height=3.2)
        for axis, (name, x_N) in zip(axes, {fit.law.output: these.fitted_N, **these.inputs}.items(), strict=True):
            _scattered(axis, fit, x_N, values)
            log_axis(axis, "x", fit.columns.get(name, name))
        axes[0].set_xlabel(f"fitted {label(fit.law.output)}")
    axes[0].set_ylabel(f"residual ({unit})")
    drawn.suptitle(plain(f"{fit.law.name}: residuals of {len(values)}"), fontsize=10)
    return drawn


def _scattered(axis: Axes, fit: Fit, x_N: Array, residual_N: Array) -> None:
    low, high = in_unit(fit, np.array([-fit.scatter, fit.scatter]))[0]
    axis.axhspan(float(low), float(high), color=GROUP_COLOURS[0], alpha=0.08, lw=0)
    axis.axhline(0.0, color="black", lw=0.8)
    axis.plot(x_N, residual_N, "o", ms=4, color=GROUP_COLOURS[0], alpha=0.7, mew=0)
