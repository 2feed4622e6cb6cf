"""The target: what is best there by what is known, and what is not known yet."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalelab.errors import Refused, unknown
from scalelab.laws.law import Array
from scalelab.samplers.law.coordinates import Coordinates, Spots, about
from scalelab.samplers.law.edge import Edge
from scalelab.samplers.law.mean import Points, joined
from scalelab.samplers.law.posterior import Posterior

FREE = 17  # values of a scale that the target leaves free
KEPT = 3  # scales about whose best setting is searched
DRAWS = 48  # of the law's parameters, over which a loss at the target is averaged
RADII = (0.5, 0.25, 0.12)  # e-folds: of the searches about the best
SEARCHED = 48  # settings a search
STEP = 0.3  # e-folds: of differences
DIVERGED_COST = 0.2  # of a divergence, as a share of the loss: assumed
LEAST_CURVATURE = 1e-3  # of the loss at the target, in shares of it, a square e-fold: assumed


@dataclass(frozen=True, kw_only=True, eq=False)
class Action:
    """A setting at a scale, and the loss expected of it as a share of the loss's size."""

    scale: Mapping[str, Any]
    hyper_H: Array
    choice: Mapping[str, Any]
    value: float


def spots_of(coordinates: Coordinates, target: Mapping[str, float]) -> Spots:
    """The scales of a target; a scale that it does not name is free, and runs over its range.

    Raises:
        Refused: where the target names what is no scale, nothing at all, or no positive number.
    """
    names = [axis.name for axis in coordinates.scales]
    for name, value in target.items():
        if name not in names:
            raise unknown("scale in the target", name, names)
        if not (isinstance(value, int | float | np.number) and value > 0):
            raise Refused(f"target {name}={value!r}: accepted is a positive number")
    if names and not target:
        raise Refused(f"the target names no scale: give one or more of {', '.join(names)}")
    axes = [
        [target[axis.name]] if axis.name in target
        else list(dict.fromkeys(axis.outward(unit) for unit in np.linspace(*axis.range, FREE)))
        for axis in coordinates.scales
    ]  # fmt: skip
    return coordinates.spots([dict(zip(names, values, strict=True)) for values in itertools.product(*axes)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlook:
    """What is believed: the posterior, the edge, and draws of the law's parameters (D, P) about the most likely."""

    coordinates: Coordinates
    posterior: Posterior
    edge: Edge
    draw_DP: Array

    @classmethod
    def of(cls, coordinates: Coordinates, posterior: Posterior, edge: Edge, rng: np.random.Generator) -> "Outlook":
        _, covariance_PP = posterior.parameters()
        value_P, vector_PP = np.linalg.eigh((covariance_PP + covariance_PP.T) / 2)
        half_DP = rng.standard_normal((DRAWS // 2, len(value_P))) @ (vector_PP * np.sqrt(np.maximum(value_P, 0.0))).T
        draw_DP = posterior.theta_P + np.concatenate([half_DP, -half_DP])
        return cls(coordinates=coordinates, posterior=posterior, edge=edge, draw_DP=draw_DP)

    def expected(self, points: Points) -> Array:
        """Expected loss at points (n,), a divergence counted, as a share of the loss's size."""
        missed_N = self.posterior.missed(self.posterior.law_at(points))
        risk_N = DIVERGED_COST * self.edge.chance(points)
        return np.asarray(self.posterior.law(self.draw_DP, points).mean(axis=0) + missed_N + risk_N)

    def optimum(self, points: Points, theta_P: Array | None = None) -> Array:
        """The law's best settings (n, H), within the bounds."""
        theta_P = self.posterior.theta_P if theta_P is None else theta_P
        return np.asarray(np.clip(self.posterior.law.optimum(theta_P[None], points)[0], *self.coordinates.bounds_H))


def best(spots: Spots, outlook: Outlook, rng: np.random.Generator) -> list[Action]:
    """The best setting among scales with each choice outside the law, best first."""
    found = [_best_with(choice, spots, outlook, rng) for choice in outlook.coordinates.choices]
    return sorted(found, key=lambda action: action.value)


def _best_with(choice: Mapping[str, Any], spots: Spots, outlook: Outlook, rng: np.random.Generator) -> Action:
    code_O = outlook.coordinates.encoded([choice])[0]

    def values(points: Points, hyper_MEH: Array) -> Array:
        other_MEO = np.broadcast_to(code_O, (*hyper_MEH.shape[:2], len(code_O)))
        return outlook.expected(about(points, hyper_MEH, other_MEO)).reshape(hyper_MEH.shape[:2])

    hyper_MH = outlook.optimum(spots.points)
    value_M = values(spots.points, hyper_MH[:, None])[:, 0]
    kept = np.argsort(value_M, kind="stable")[:KEPT]
    spots, hyper_MH, value_M = spots[kept], hyper_MH[kept], value_M[kept]
    m, h = hyper_MH.shape
    for radius in RADII if h else ():
        tried_MEH = hyper_MH[:, None] + radius * rng.standard_normal((m, SEARCHED, h))
        tried_MEH = np.clip(np.concatenate([tried_MEH, hyper_MH[:, None]], axis=1), *outlook.coordinates.bounds_H)
        value_ME = values(spots.points, tried_MEH)
        first_M = value_ME.argmin(axis=1)
        hyper_MH, value_M = tried_MEH[range(m), first_M], value_ME[range(m), first_M]
    k = int(value_M.argmin())
    return Action(scale=spots.scales[k], hyper_H=hyper_MH[k], choice=choice, value=float(value_M[k]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Unknown:
    """What is not known of the target: losses at `points`, of which `slope_AN` makes the slopes at the recommendation;
    the inverse curvature there; and by how much other choices are expected to be worse (K,), whose points come last,
    behind the recommendation's."""

    points: Points
    slope_AN: Array
    inverse_AA: Array
    behind_K: Array


def unknown_at(spots: Spots, outlook: Outlook, actions: Sequence[Action]) -> Unknown:
    """The slopes and the curvature of the loss at the first action, and the others' distance behind it."""
    coordinates, posterior, chosen = outlook.coordinates, outlook.posterior, actions[0]
    names = [axis.name for axis in coordinates.scales]
    free = [k for k, name in enumerate(names) if len({scale[name] for scale in spots.scales}) > 1]
    a = len(free) + len(coordinates.hypers)

    def at(step_NA: Array) -> Points:
        step_NS = np.zeros((len(step_NA), len(names)))
        step_NS[:, free] = step_NA[:, : len(free)]
        return coordinates.stencil(chosen.scale, step_NS, chosen.hyper_H + step_NA[:, len(free) :], chosen.choice)

    eye_AA = STEP * np.eye(a)
    pairs = [(i, j) for i in range(a) for j in range(i)]
    cross = [eye_AA[i] * s + eye_AA[j] * t for i, j in pairs for s, t in ((1, 1), (-1, -1), (1, -1), (-1, 1))]
    value_N = posterior.law(posterior.theta_P[None], at(np.array([*eye_AA, *-eye_AA, np.zeros(a), *cross])))[0]
    hessian_AA = np.diag((value_N[:a] + value_N[a : 2 * a] - 2 * value_N[2 * a]) / STEP**2)
    cross_X4 = value_N[2 * a + 1 :].reshape(-1, 4)
    for (i, j), four in zip(pairs, cross_X4, strict=True):
        hessian_AA[i, j] = hessian_AA[j, i] = (four @ [1, 1, -1, -1]) / (4 * STEP**2)
    value_A, vector_AA = np.linalg.eigh(hessian_AA)
    others = coordinates.points([coordinates.params(o.scale, o.hyper_H, o.choice) for o in actions])
    points = joined([at(np.array([*eye_AA, *-eye_AA])), others]) if a else others
    slope_AN = np.zeros((a, len(points)))
    slope_AN[range(a), range(a)], slope_AN[range(a), range(a, 2 * a)] = 0.5 / STEP, -0.5 / STEP
    return Unknown(
        points=points, slope_AN=slope_AN, inverse_AA=(vector_AA / np.maximum(value_A, LEAST_CURVATURE)) @ vector_AA.T,
        behind_K=np.array([action.value - chosen.value for action in actions[1:]]),
    )  # fmt: skip
