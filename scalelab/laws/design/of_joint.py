"""The joint fit as a linear model about its maximum: what runs at a new scale would say about its parameters.

A new cell brings runs with slopes S (by the parameters) and E (by the cell's own effects: its level, and how far each
of its optima lies from the law). The effects have precision Λ, that of the scatter between cells, and are eliminated as
in the fit:

    J = SᵀWS − SᵀWE (EᵀWE + Λ)⁻¹ EᵀWS

so that repeating one cell for ever says no more than where that one cell's optimum is. Errors are those of the fit:
seeds average a run's noise, and not the misfit of the valley's formula, which all seeds share.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scalelab.errors import unknown
from scalelab.laws.joint.model import Coordinate, Model, layout
from scalelab.laws.joint.priors import USUAL
from scalelab.laws.joint.result import Joint
from scalelab.laws.joint.solve import variance
from scalelab.laws.joint.valley import bend
from scalelab.laws.law import Array

FREE_LEVEL = 1e-9  # precision of a new cell's level: what loss it reaches is not taken as known
STEP = 1e-4  # of central differences; optima are quadratic in parameters and effects


@dataclass(frozen=True, kw_only=True, eq=False)
class Optimum:
    """ln of the best setting at a scale: its value, gradient by the parameters, and the scatter of a scale's own."""

    log: float
    gradient_P: Array = field(repr=False)
    scatter: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """A joint fit's parameters `theta_P` with their covariance."""

    joint: Joint
    theta_P: Array
    covariance_PP: Array

    @property
    def precision_PP(self) -> Array:
        return np.asarray(np.linalg.inv(self.covariance_PP))

    def optimum(self, of: str, scale: Mapping[str, float], *, batch_tokens: float | None) -> Optimum:
        """The best `of` at a scale, with the batch given or, where it has a valley, its best."""
        names = list(self.joint.coordinates)
        if of not in names:
            raise unknown("setting with an optimum", of, names)
        model = self._model([{**scale, **({"batch_tokens": batch_tokens} if batch_tokens else {})}])
        effects, parameters = len(names), len(self.theta_P)
        at = np.concatenate([self.theta_P, np.zeros(effects)])

        def log(point: Array) -> float:
            return _log_optimum(model, of, point[:parameters], point[parameters:], batch_tokens, self.joint.reference)

        slope = np.array([(log(at + h) - log(at - h)) / (2 * STEP) for h in STEP * np.eye(len(at))])
        scatter_E = np.array([self.joint.scatter[name] * math.log(2) for name in names])
        own = float(np.sqrt(((slope[parameters:] * scatter_E) ** 2).sum()))
        return Optimum(log=log(at), gradient_P=slope[:parameters], scatter=own)

    def spread_octaves(self, found: Optimum) -> float:
        """Standard deviation of a scale's own optimum, law and scatter."""
        law = float(found.gradient_P @ self.covariance_PP @ found.gradient_P)
        return math.sqrt(law + found.scatter**2) / math.log(2)

    def information(self, scale: Mapping[str, float], rows: Sequence[Mapping[str, float]], *, seeds: int) -> Array:
        """What a new cell with these settings, each run with `seeds` seeds, says about the parameters."""
        model = self._model([{**scale, **row} for row in rows])
        effect_CE = np.zeros((1, 1 + len(model.coordinates)))
        height_N, slope_NP, own_NE = model.slopes(self.theta_P, effect_CE)
        weight_N = 1 / variance(self.joint.noise / math.sqrt(seeds), self.joint.misfit, height_N, USUAL.trusted)
        scatter = [self.joint.scatter[q.name] * math.log(2) for q in model.coordinates]
        precision_E = np.array([FREE_LEVEL, *(sd**-2.0 for sd in scatter)])
        weighted_NE = own_NE * weight_N[:, None]
        cross_PE = slope_NP.T @ weighted_NE
        own_EE = own_NE.T @ weighted_NE + np.diag(precision_E)
        return np.asarray((slope_NP.T * weight_N) @ slope_NP - cross_PE @ np.linalg.solve(own_EE, cross_PE.T))

    def _model(self, rows: Sequence[Mapping[str, float]]) -> Model:
        """One cell with these runs, laid out as the fit's model; a setting that is not given is NaN, a batch x0."""
        coordinates = [
            (name, _log_setting(rows, name), of, np.stack([self._covariate(rows, x) for x in of], axis=-1))
            for name, of in self.joint.coordinates.items()
        ]
        return Model(
            cell_N=np.zeros(len(rows), dtype=np.intp), log_loss_N=np.zeros(len(rows)), cells=1,
            coordinates=layout(coordinates), bound_cell_M=np.zeros(0, dtype=np.intp), bound_lr_M=np.zeros(0),
            bound_covariate_MK=np.zeros((0, 0)),
        )  # fmt: skip

    def _covariate(self, rows: Sequence[Mapping[str, float]], name: str) -> Array:
        x0 = self.joint.reference[name]
        return np.log([row.get(name, x0) / x0 for row in rows])


def linear(joint: Joint) -> Linear:
    """The fit with its covariance from its draws."""
    theta_P = np.array([estimate.value for estimate in joint.estimates.values()])
    draws_DP = np.stack([np.array(joint.draws[name]) for name in joint.estimates], axis=-1)
    return Linear(joint=joint, theta_P=theta_P, covariance_PP=student_covariance(draws_DP - theta_P, joint.dof))


def student_covariance(deviation_DP: Array, dof: float) -> Array:
    """The covariance behind Student-t draws, whose tails would swamp a sample's own: maximum likelihood by reweighting
    (Lange, Little & Taylor 1989, doi:10.1080/01621459.1989.10478852.)
    """
    d, p = deviation_DP.shape
    covariance_PP = deviation_DP.T @ deviation_DP / d
    for _ in range(100):
        distance_D = np.einsum("dp,dp->d", deviation_DP, np.linalg.solve(covariance_PP, deviation_DP.T).T)
        weighted_DP = deviation_DP * ((dof + p) / (dof + distance_D))[:, None]
        before_PP, covariance_PP = covariance_PP, weighted_DP.T @ deviation_DP / d
        if np.abs(covariance_PP - before_PP).max() <= 1e-8 * np.abs(covariance_PP).max():
            break
    return np.asarray(covariance_PP)


def _log_optimum(
    model: Model, of: str, theta_P: Array, effect_E: Array, batch_tokens: float | None, reference: Mapping[str, float]
) -> float:
    """ln of the best `of` in the model's first run; a learning rate where batches have a valley and none is given is
    that of the best batch."""
    by_name = {q.name: q for q in model.coordinates}

    def centre(q: Coordinate) -> float:
        return float(theta_P[q.first] + q.covariate_NK[0] @ theta_P[q.centre][1:] + effect_E[q.place - 1])

    q = by_name[of]
    if of != "lr" or not model.bends:
        return centre(q)
    own = centre(by_name["batch_tokens"])
    if batch_tokens is not None:
        return centre(q) + float(theta_P[-2] * bend(np.array(math.log(batch_tokens) - own), theta_P[-1])[0])
    place = q.first + 1 + q.covariates.index("batch_tokens")
    return centre(q) + float(theta_P[place]) * (own - math.log(reference["batch_tokens"]))


def _log_setting(rows: Sequence[Mapping[str, float]], name: str) -> Array:
    if name == "tau":
        parts = [_log_setting(rows, part) for part in ("batch_tokens", "lr", "weight_decay", "tokens")]
        return np.asarray(parts[0] - parts[1] - parts[2] - parts[3])
    return np.log([row.get(name, math.nan) for row in rows])
