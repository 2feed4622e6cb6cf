"""Maximum of the joint posterior, and the sizes of its errors.

Parameters are few and shared, effects are many and each belongs to one cell, so the Hessian is an arrow: effects are
eliminated cell by cell and the cost is linear in runs. A run's error has two parts, noise that every run has and a
share of its height in the valley, because far from its bottom the formula is only roughly right; both are estimated, so
no window around the optimum has to be chosen. Residuals beyond 2.5 standard deviations pull with constant force
(Huber). Scatter between cells is estimated with its share of the effects' own uncertainty (expectation-maximisation).
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

from scalelab.laws.joint import priors
from scalelab.laws.joint.model import Model
from scalelab.laws.law import Array

BOUND_SD = 0.35  # ln lr: half an octave above what diverged is two standard deviations
TAIL_DOF = 4.0  # of the Student-t by which noise and misfit are judged, so that outliers do not set them
NORMAL = 0.831  # scale at which that Student-t fits normal errors of standard deviation 1 best
ROUNDS = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """Standard deviations: `noise` of ln loss, `misfit` as a share of the height, `effect_E` between cells (level, then
    one for each coordinate, in ln setting); `level_C` is the loss law's ln level, NaN where there is none."""

    noise: float
    misfit: float
    effect_E: Array
    level_C: Array = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """The maximum: parameters and effects with their covariances (of effects also given the parameters: `own_CEE`), the
    objective there, and per-cell scores (C, P)."""

    theta_P: Array
    effect_CE: Array
    covariance_PP: Array
    effect_covariance_CEE: Array
    own_CEE: Array
    value: float
    score_CP: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pull:
    """The normal equations at a point: gradients and curvatures by parameters, by effects, and across."""

    gradient_P: Array
    gradient_CE: Array
    hessian_PP: Array
    hessian_CEE: Array
    cross_CPE: Array


class Solver:
    """A model with its priors; `fixed` holds parameters (by place) at values, for profiles."""

    def __init__(
        self, model: Model, assumed: priors.Assumptions = priors.USUAL, *, fixed: dict[int, float] | None = None
    ) -> None:
        self.model, self.assumed = model, assumed
        found = model.priors()
        self.mean_P = np.array([p.mean for p in found])
        width_P = [assumed.prior_width if " ~ " in name else 1.0 for name in model.names]
        self.precision_P = np.array([(p.sd * width) ** -2.0 for p, width in zip(found, width_P, strict=True)])
        self.fixed = fixed or {}
        for place, value in self.fixed.items():
            self.mean_P[place], self.precision_P[place] = value, 1e12
        self.start_C = np.searchsorted(model.cell_N, np.arange(model.cells))
        self.has_C = np.bincount(model.cell_N, minlength=model.cells) > 0

    def by_cell(self, values_N: Array) -> Array:
        """Sums over the runs of each cell, along the first axis."""
        total = np.zeros((self.model.cells, *values_N.shape[1:]))
        total[self.has_C] = np.add.reduceat(values_N, self.start_C[self.has_C], axis=0)
        return total

    def maximum(self, theta_P: Array, effect_CE: Array, spread: Spread, weight_N: Array, *, most: int = 80) -> State:
        """The posterior's maximum for given sizes of errors, by Levenberg-Marquardt from a point."""
        value = self.value(theta_P, effect_CE, spread, weight_N)
        damping = 1e-3
        pull = self._pull(theta_P, effect_CE, spread, weight_N)
        for _ in range(most):
            step_P, step_CE = self._step(pull, damping)
            tried_P, tried_CE = theta_P + step_P, effect_CE + step_CE
            tried = self.value(tried_P, tried_CE, spread, weight_N)
            if not tried < value:
                damping *= 4
                if damping > 1e8:
                    break
                continue
            gain = value - tried
            theta_P, effect_CE, value, damping = tried_P, tried_CE, tried, max(damping / 5, 1e-9)
            pull = self._pull(theta_P, effect_CE, spread, weight_N)
            if gain < 1e-7 * (1 + abs(value)):
                break
        inverse_CEE: Array = np.linalg.inv(pull.hessian_CEE).astype(np.float64)
        turned_CPE = pull.cross_CPE @ inverse_CEE
        covariance_PP = np.linalg.inv(pull.hessian_PP - np.einsum("cpe,cqe->pq", turned_CPE, pull.cross_CPE))
        spread_CEE = inverse_CEE + np.einsum("cpe,pq,cqf->cef", turned_CPE, covariance_PP, turned_CPE)
        return State(
            theta_P=theta_P, effect_CE=effect_CE, covariance_PP=covariance_PP, effect_covariance_CEE=spread_CEE,
            own_CEE=inverse_CEE, value=value, score_CP=self._scores(theta_P, effect_CE, weight_N),
        )  # fmt: skip

    def value(self, theta_P: Array, effect_CE: Array, spread: Spread, weight_N: Array) -> float:
        """Minus the log posterior, up to a constant."""
        model = self.model
        residual_N = effect_CE[model.cell_N, 0] + model.heights(theta_P, effect_CE) - model.log_loss_N
        z_N = np.abs(residual_N) * np.sqrt(weight_N)
        inner_N = np.minimum(z_N, self.assumed.outlier)
        total = float((inner_N * (z_N - 0.5 * inner_N)).sum())
        total += 0.5 * float((self.precision_P * (theta_P - self.mean_P) ** 2).sum())
        offset_CE, precision_CE = self._effects(effect_CE, spread)
        total += 0.5 * float((precision_CE * offset_CE**2).sum())
        total += 0.5 * float((np.maximum(model.beyond(theta_P, effect_CE), 0.0) ** 2).sum()) / BOUND_SD**2
        return total if np.isfinite(total) else float("inf")

    def _effects(self, effect_CE: Array, spread: Spread) -> tuple[Array, Array]:
        """Effects as deviations, and their precisions."""
        known_C = np.isfinite(spread.level_C)
        offset_CE = effect_CE.copy()
        offset_CE[:, 0] = np.where(known_C, effect_CE[:, 0] - np.where(known_C, spread.level_C, 0.0), 0.0)
        precision_CE = np.broadcast_to(spread.effect_E**-2.0, effect_CE.shape).copy()
        precision_CE[~known_C, 0] = 1e-9
        return offset_CE, precision_CE

    def _residual_weights(self, theta_P: Array, effect_CE: Array, weight_N: Array) -> tuple[Array, Array, Array]:
        height_N, slope_NP, own_NE = self.model.slopes(theta_P, effect_CE)
        residual_N = effect_CE[self.model.cell_N, 0] + height_N - self.model.log_loss_N
        z_N = np.abs(residual_N) * np.sqrt(weight_N)
        robust_N = weight_N / np.maximum(z_N / self.assumed.outlier, 1.0)
        return residual_N * robust_N, np.concatenate([slope_NP, own_NE], axis=1), robust_N

    def _scores(self, theta_P: Array, effect_CE: Array, weight_N: Array) -> Array:
        pulled_N, both, _ = self._residual_weights(theta_P, effect_CE, weight_N)
        return self.by_cell(pulled_N[:, None] * both[:, : len(theta_P)])

    def _pull(self, theta_P: Array, effect_CE: Array, spread: Spread, weight_N: Array) -> _Pull:
        model, p = self.model, len(theta_P)
        pulled_N, both, robust_N = self._residual_weights(theta_P, effect_CE, weight_N)
        slope_NP, own_NE = both[:, :p], both[:, p:]
        weighted_NE = own_NE * robust_N[:, None]
        offset_CE, precision_CE = self._effects(effect_CE, spread)
        e = own_NE.shape[1]
        hessian_CEE = self.by_cell((weighted_NE[:, :, None] * own_NE[:, None, :]).reshape(-1, e * e)).reshape(-1, e, e)
        hessian_CEE[:, range(e), range(e)] += precision_CE
        gradient_CE = self.by_cell(own_NE * pulled_N[:, None]) + precision_CE * offset_CE
        cross_CPE = self.by_cell((slope_NP[:, :, None] * weighted_NE[:, None, :]).reshape(-1, p * e)).reshape(-1, p, e)
        hessian_PP = slope_NP.T @ (slope_NP * robust_N[:, None]) + np.diag(self.precision_P)
        gradient_P = slope_NP.T @ pulled_N + self.precision_P * (theta_P - self.mean_P)
        if len(model.bound_lr_M):
            q = model.coordinates[0]
            above_M = np.maximum(model.beyond(theta_P, effect_CE), 0.0) / BOUND_SD**2
            on_M = (above_M > 0) / BOUND_SD**2
            row_MP = np.zeros((len(above_M), p))
            row_MP[:, q.first] = 1.0
            row_MP[:, q.first + 1 : q.curvature] = model.bound_covariate_MK
            gradient_P += row_MP.T @ above_M
            hessian_PP += row_MP.T @ (row_MP * on_M[:, None])
            np.add.at(gradient_CE[:, q.place], model.bound_cell_M, above_M)
            np.add.at(hessian_CEE[:, q.place, q.place], model.bound_cell_M, on_M)
            np.add.at(cross_CPE[:, :, q.place], model.bound_cell_M, row_MP * on_M[:, None])
        return _Pull(
            gradient_P=gradient_P, gradient_CE=gradient_CE, hessian_PP=hessian_PP, hessian_CEE=hessian_CEE,
            cross_CPE=cross_CPE,
        )  # fmt: skip

    @staticmethod
    def _step(pull: _Pull, damping: float) -> tuple[Array, Array]:
        eye_E, eye_P = np.eye(pull.hessian_CEE.shape[1]), np.eye(len(pull.gradient_P))
        inverse_CEE = np.linalg.inv(pull.hessian_CEE * (1 + damping * eye_E))
        turned_CPE = pull.cross_CPE @ inverse_CEE
        schur_PP = pull.hessian_PP * (1 + damping * eye_P) - np.einsum("cpe,cqe->pq", turned_CPE, pull.cross_CPE)
        right_P = pull.gradient_P - np.einsum("cpe,ce->p", turned_CPE, pull.gradient_CE)
        step_P = -np.linalg.solve(schur_PP, right_P)
        own_CE = pull.gradient_CE + np.einsum("cpe,p->ce", pull.cross_CPE, step_P)
        return step_P, -np.einsum("cef,cf->ce", inverse_CEE, own_CE)


def variance(noise: float, misfit: float, height_N: Array, trusted: float) -> Array:
    """Variance of a run's ln loss: noise, and a share of its height that itself grows with the height, because the
    valley's formula is an expansion about its bottom."""
    return np.asarray(noise**2 + (misfit * height_N) ** 2 * (1 + (height_N / trusted) ** 2))


def error_sizes(residual_N: Array, height_N: Array, before: Spread, free: int, trusted: float) -> tuple[float, float]:
    """Noise and misfit that make the residuals most likely, `free` numbers having been fitted to them."""
    lost = len(residual_N) / max(len(residual_N) - free, 1) / NORMAL**2

    def surprise(logs: Array) -> float:
        noise, misfit = np.exp(np.clip(logs, -14, 2))
        variance_N = variance(noise, misfit, height_N, trusted)
        tails_N = 0.5 * (TAIL_DOF + 1) * np.log1p(lost * residual_N**2 / variance_N / TAIL_DOF)
        prior = (
            0.5 * ((logs[0] - np.log(priors.NOISE)) / 1.5) ** 2 + 0.5 * ((logs[1] - np.log(priors.MISFIT)) / 0.7) ** 2
        )
        return float((0.5 * np.log(variance_N) + tails_N).sum() + prior)

    found = minimize(surprise, np.log([before.noise, before.misfit]), method="Nelder-Mead",
                     options={"xatol": 1e-3, "fatol": 1e-3, "maxiter": 120})  # fmt: skip
    noise, misfit = np.exp(np.clip(found.x, -14, 2))
    return float(noise), float(min(misfit, 1.0))
