"""A fit and the rows it was fitted to: inputs, observed and fitted outputs, row by row."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import OUTCOMES
from scalelab.laws.fitted import Fit
from scalelab.laws.law import Array
from scalelab.laws.observations import derived


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Rows as a fit sees them; those without an output are left out."""

    inputs: dict[str, Array]
    observed_N: Array
    fitted_N: Array

    @property
    def residual_N(self) -> Array:
        """Measured minus fitted, in octaves of the output."""
        return np.asarray(np.log2(self.observed_N / self.fitted_N))


def seen(fit: Fit, rows: pd.DataFrame) -> Seen:
    """A fit beside its rows.

    Raises:
        Refused: where the rows lack an input or the output.
    """
    columns = {name: derived(rows, fit.columns.get(name, name), {}) for name in (*fit.reference, fit.law.output)}
    if missing := [name for name, values in columns.items() if values is None]:
        raise Refused(f"the rows lack {', '.join(missing)}: give those that {fit.law.name} was fitted to")
    values = {name: np.asarray(column, dtype=float) for name, column in columns.items()}
    there_N = np.logical_and.reduce([np.isfinite(column) for column in values.values()])
    observed_N = values.pop(fit.law.output)[there_N]
    inputs = {name: column[there_N] for name, column in values.items()}
    return Seen(inputs=inputs, observed_N=observed_N, fitted_N=fitted(fit, inputs))


def fitted(fit: Fit, inputs: dict[str, Array]) -> Array:
    """The fit's output at inputs, its best parameters taken."""
    ratios = {name: inputs[name] / x0 for name, x0 in fit.reference.items()}
    parameters = {name: np.array(e.value) for name, e in fit.estimates.items()}
    first = next(iter(inputs.values()), np.zeros(1))
    return np.broadcast_to(np.asarray(fit.law.value(parameters, ratios), dtype=float), first.shape).copy()


def in_unit(fit: Fit, octaves: Array) -> tuple[Array, str]:
    """Residuals as people read them: per cent of a loss, octaves of a hyperparameter."""
    if fit.law.output in OUTCOMES:
        return np.asarray(100 * np.expm1(octaves * np.log(2))), "% of the fitted"
    return octaves, "octaves"
