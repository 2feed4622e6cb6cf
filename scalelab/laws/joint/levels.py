"""The loss law behind the levels: what a cell's best loss should be, given the other cells'.

A cell with few runs, or only at the edge of its grid, hardly knows its own level; the law through the other levels says
what it is, and with it where the optimum must lie. The simplest law that the cells can carry is used.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.columns import PARAMS
from scalelab.laws.forms import LAWS
from scalelab.laws.law import Array, Law
from scalelab.laws.observations import refuse_unvaried
from scalelab.laws.solve.least_squares import minimise
from scalelab.laws.solve.objective import LEAST_SQUARES
from scalelab.laws.solve.optimum import best
from scalelab.laws.solve.problem import Problem

CHOICES = ("chinchilla", "kaplan_size", "kaplan_data")  # the first that the cells can carry
SPARE = 2  # cells more than parameters
SMALLEST = 1e-4  # scatter of ln levels about any law


def level_law(scales: Sequence[Mapping[str, float]]) -> Callable[[Array, Array], tuple[Array, float]] | None:
    """A function from the levels, ln loss, and their standard deviations to a law's levels and the scatter about it.

    None where no law can be fitted to so few cells.
    """
    count = next((name for name in PARAMS if name in scales[0]), None)
    columns = {"params": count, "tokens": "tokens" if "tokens" in scales[0] else None}
    for name in CHOICES:
        law = LAWS[name]
        if len(scales) < len(law.parameters) + SPARE or any(columns[x] is None for x in law.inputs):
            continue
        inputs = {x: np.array([scale[str(columns[x])] for scale in scales]) for x in law.inputs}
        try:
            refuse_unvaried(inputs, law)
        except Refused:
            continue
        return _Through(law, inputs)
    return None


class _Through:
    """The law through given levels; each call starts where the one before ended."""

    def __init__(self, law: Law, inputs: Mapping[str, Array]) -> None:
        self.law, self.inputs = law, inputs
        self.theta_P: Array | None = None

    def __call__(self, level_C: Array, sd_C: Array) -> tuple[Array, float]:
        problem = Problem(law=self.law, inputs=self.inputs, output_N=np.exp(level_C), objective=LEAST_SQUARES)
        if self.theta_P is None:
            self.theta_P = best(problem).theta_P
        # Levels change little from call to call, so a few steps from where the last one ended are enough.
        self.theta_P = minimise(problem.residuals, LEAST_SQUARES, self.theta_P[None], tolerance=1e-6, most=20).theta_RP[
            0
        ]
        residual_C = problem.residuals(self.theta_P[None])[0][0]
        spare = len(level_C) - len(self.law.parameters)
        squares = float((residual_C**2).sum()) / spare - float(np.mean(np.minimum(sd_C, 0.1) ** 2))
        return level_C + residual_C, max(np.sqrt(max(squares, 0.0)), SMALLEST)
