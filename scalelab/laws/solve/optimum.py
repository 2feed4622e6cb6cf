"""The best parameters of a law: from many starts, by way of gentler objectives, with how often the best was reached."""

from dataclasses import dataclass, replace

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.law import Array
from scalelab.laws.solve.least_squares import minimise
from scalelab.laws.solve.objective import Objective
from scalelab.laws.solve.problem import Problem

FINALISTS = 8  # starts that are followed to their end, the best of those that a law offers
SCREENED = 4096  # observations that starts are compared on; more would tell them apart no better
REACHED = 1e-4  # relative: a start that ends so near the best objective has reached it


@dataclass(frozen=True, kw_only=True, eq=False)
class Best:
    """The coordinates `theta_P` of the lowest objective `value`; of `starts` screened, `followed` were run to their
    end, and `reached` of these came within 1e-4 of the best."""

    theta_P: Array
    value: float
    starts: int
    followed: int
    reached: int


def best(problem: Problem, *, near: Array | None = None) -> Best:
    """Fit from the law's own starts, or only from the coordinates `near`, of shape (P,) or (R, P).

    Raises:
        Refused: where the law has no starts, or no value at any.
    """
    some = _thinned(problem)
    if near is not None:
        start_RP = np.atleast_2d(near)
    else:
        if problem.law.starts is None:
            raise Refused(f"{problem.law.name} has no starting points: give the law a function `starts`")
        with np.errstate(all="ignore"):  # inputs may be of any size, and a start without a value loses
            start_RP = problem.coordinates(problem.law.starts(some.inputs, some.output_N))
    screen_R = some.value(start_RP)
    order = np.argsort(screen_R, kind="stable")[:FINALISTS]
    order = order[np.isfinite(screen_R[order])]
    if not len(order):
        raise Refused(f"{problem.law.name} has no value at these inputs: are they in the units that it names?")
    theta_RP = start_RP[order]
    for objective in _gentler(problem, theta_RP[:1]):
        solved = minimise(replace(problem, objective=objective, exact=False).residuals, objective, theta_RP)
        theta_RP, value_R = solved.theta_RP, solved.value_R
    winner = int(np.argmin(value_R))
    polished = minimise(problem.residuals, problem.objective, theta_RP[[winner]], tolerance=1e-12)
    value = float(polished.value_R[0])
    return Best(
        theta_P=polished.theta_RP[0],
        value=value,
        starts=len(start_RP),
        followed=len(order),
        reached=int((value_R <= value * (1 + REACHED) + 1e-300).sum()),
    )


def _thinned(problem: Problem) -> Problem:
    """The problem on as many of its observations as screening needs."""
    if len(problem.output_N) <= SCREENED:
        return problem
    rows = np.random.default_rng(0).choice(len(problem.output_N), SCREENED, replace=False)
    inputs = {name: values[rows] for name, values in problem.inputs.items()}
    return replace(problem, inputs=inputs, output_N=problem.output_N[rows])


def _gentler(problem: Problem, theta_RP: Array) -> list[Objective]:
    """Objectives that end in the problem's own; where its δ is far below the residuals, larger ones come first."""
    if not np.isfinite(problem.objective.delta):
        return [problem.objective]
    residual_N = problem.residuals(theta_RP)[0][0]
    delta = problem.objective.scaled(residual_N[np.isfinite(residual_N)]).delta
    path = []
    while delta > 3 * problem.objective.delta:
        path.append(replace(problem.objective, delta=delta))
        delta /= 10
    return [*path, problem.objective]
