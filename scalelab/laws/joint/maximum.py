"""The joint model's maximum: start, then alternate between the maximum and the sizes of the errors."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from scalelab.laws.joint import priors
from scalelab.laws.joint.model import Model
from scalelab.laws.joint.solve import ROUNDS, Solver, Spread, State, error_sizes, variance
from scalelab.laws.law import Array

# ln levels by a loss law: estimates (C,) and their standard deviations → the law's (C,) and the scatter about it.
Levels = Callable[[Array, Array], tuple[Array, float]]

LEAST_TOLD = 1e-6  # share of what is known of a level that its own runs tell, at least: a cell may have none
SETTLED = 0.01  # relative change of every size of error below which rounds end


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """A model at its maximum, with the sizes of its errors."""

    model: Model
    assumed: priors.Assumptions
    state: State
    spread: Spread
    weight_N: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Where a similar fit ended: parameters, and the sizes of its errors."""

    theta_P: Array
    noise: float
    misfit: float
    scatter_Q: Array

    def spread(self, model: Model) -> Spread:
        """As a spread of a model, whose levels are not known yet."""
        return replace(
            _first_spread(model), noise=self.noise, misfit=self.misfit, effect_E=np.array([1.0, *self.scatter_Q])
        )


def solve(
    model: Model,
    *,
    levels: Levels | None = None,
    near: Start | None = None,
    assumed: priors.Assumptions = priors.USUAL,
) -> Solved:
    """The maximum of the joint posterior, from a start of its own or from that of a similar fit.

    `levels` gives the cells' ln levels by a loss law, from estimates and their standard deviations.
    """
    solver = Solver(model, assumed)
    theta_P, effect_CE = start(model, None if near is None else near.theta_P)
    spread = near.spread(model) if near is not None else _first_spread(model)
    floor_C = effect_CE[:, 0]
    height_N = np.maximum(model.log_loss_N - floor_C[model.cell_N], 0.0)
    state = None
    for _ in range(ROUNDS):
        weight_N = 1 / variance(spread.noise, spread.misfit, height_N, assumed.trusted)
        state = solver.maximum(theta_P, effect_CE, spread, weight_N)
        theta_P, effect_CE = state.theta_P, state.effect_CE
        before = spread
        height_N, spread = _updated(model, state, spread, levels, assumed)
        if _change(before, spread) < SETTLED:
            break
    assert state is not None
    weight_N = 1 / variance(spread.noise, spread.misfit, height_N, assumed.trusted)
    state = solver.maximum(theta_P, effect_CE, spread, weight_N)
    return Solved(model=model, assumed=assumed, state=state, spread=spread, weight_N=weight_N)


def start(model: Model, theta_P: Array | None = None) -> tuple[Array, Array]:
    """A first guess: every cell's best run, and a ridge regression of the best settings on scale."""
    best_C = _best_runs(model)
    effect_CE = np.zeros((model.cells, 1 + len(model.coordinates)))
    known = best_C >= 0
    effect_CE[known, 0] = model.log_loss_N[best_C[known]]
    effect_CE[~known, 0] = float(np.median(model.log_loss_N))
    if theta_P is not None:
        return theta_P, effect_CE
    guess_P = np.array([p.mean for p in model.priors()])
    precision_P = np.array([p.sd**-2.0 for p in model.priors()])
    for q in model.coordinates:
        design_CK = np.concatenate([np.ones((known.sum(), 1)), q.covariate_NK[best_C[known]]], axis=1)
        mean_K, ridge_KK = (
            guess_P[q.centre],
            np.diag(precision_P[q.centre]) * 0.5**2,
        )  # best runs are good to ½ an e-fold
        right_K = design_CK.T @ (q.setting_N[best_C[known]] - design_CK @ mean_K)
        guess_P[q.centre] = mean_K + np.linalg.solve(design_CK.T @ design_CK + ridge_KK, right_K)
    return guess_P, effect_CE


def _best_runs(model: Model) -> Array:
    order = np.lexsort((model.log_loss_N, model.cell_N))
    cells, first = np.unique(model.cell_N[order], return_index=True)
    best_C = np.full(model.cells, -1)
    best_C[cells] = order[first]
    return best_C


def _first_spread(model: Model) -> Spread:
    return Spread(
        noise=priors.NOISE * 2,
        misfit=priors.MISFIT,
        effect_E=np.array([1.0] + [2 * priors.SCATTER] * len(model.coordinates)),
        level_C=np.full(model.cells, np.nan),
    )


def _updated(
    model: Model, state: State, spread: Spread, levels: Levels | None, assumed: priors.Assumptions
) -> tuple[Array, Spread]:
    height_N = model.heights(state.theta_P, state.effect_CE)
    residual_N = state.effect_CE[model.cell_N, 0] + height_N - model.log_loss_N
    free = len(state.theta_P) + state.effect_CE.size
    noise, misfit = error_sizes(residual_N, height_N, spread, min(free, len(residual_N) // 2), assumed.trusted)
    variance_CE = np.einsum("cee->ce", state.effect_covariance_CEE)
    squares_E = (state.effect_CE**2 + variance_CE).sum(axis=0)
    effect_E = np.sqrt((squares_E + priors.SCATTER_DOF * priors.SCATTER**2) / (model.cells + priors.SCATTER_DOF))
    level_C = spread.level_C
    effect_E[0] = spread.effect_E[0]
    if levels is not None:
        level_C, effect_E[0] = levels(*own_levels(state, spread))
    return height_N, Spread(noise=noise, misfit=misfit, effect_E=effect_E, level_C=level_C)


def own_levels(state: State, spread: Spread) -> tuple[Array, Array]:
    """ln levels of the cells and their standard deviations by their own runs, the loss law's pull taken out again.

    A law fitted to levels that it has pulled would agree with itself.
    """
    level_C, known_C = state.effect_CE[:, 0], np.isfinite(spread.level_C)
    precision_C = 1 / state.own_CEE[:, 0, 0]
    told_C = np.maximum(precision_C - np.where(known_C, spread.effect_E[0] ** -2.0, 0.0), LEAST_TOLD * precision_C)
    law_C = np.where(known_C, spread.level_C, level_C)
    return law_C + (level_C - law_C) * precision_C / told_C, told_C**-0.5


def _change(before: Spread, after: Spread) -> float:
    sizes = [np.log([s.noise, s.misfit, *s.effect_E]) for s in (before, after)]
    return float(np.abs(sizes[1] - sizes[0]).max())
