"""A loss law by its draws: what one more observation would say about the loss at the target.

The draws of a fit are draws of the law's value at any scale, the target's and every candidate's, and their covariance
is all that Gaussian conditioning needs: no refit. Written as K = B Bᵀ, the values are B z with z of unit precision, and
an observation of row b with error s adds the information b bᵀ/s² about z: a loss law is searched as the joint fit is.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.design.search import Question
from scalelab.laws.fitted import Fit
from scalelab.laws.law import Array

FLAT = 1e-10  # of the largest variance: directions in which draws do not differ
FAR = 4.0  # standard deviations beyond which a draw is drawn in: resamples without an optimum of their own


def question(
    fit: Fit, target: Mapping[str, float], candidates: Sequence[Mapping[str, float]]
) -> tuple[Question, Array]:
    """The variance of ln loss at the target, and the information (C, Z, Z) of one observation at each candidate."""
    values_DC = np.stack([_log_values(fit, scale) for scale in [target, *candidates]], axis=-1)
    values_DC = values_DC[np.isfinite(values_DC).all(axis=1)]
    low_C, middle_C, high_C = np.percentile(values_DC, [15.87, 50, 84.13], axis=0)
    sd_C = (high_C - low_C) / 2
    deviation_DC = np.clip(values_DC - middle_C, -FAR * sd_C, FAR * sd_C)
    covariance_CC = deviation_DC.T @ deviation_DC / len(deviation_DC)
    value_Z, vector_CZ = np.linalg.eigh(covariance_CC)
    kept = value_Z > FLAT * max(value_Z[-1], 1e-300)
    root_CZ = vector_CZ[:, kept] * np.sqrt(value_Z[kept])
    error = fit.scatter * math.log(2)
    information_CZZ = root_CZ[1:, :, None] * root_CZ[1:, None, :] / error**2
    asked = Question(precision_PP=np.eye(int(kept.sum())), contrast_P=root_CZ[0], irreducible=error)
    return asked, information_CZZ


def inputs(fit: Fit, scale: Mapping[str, float]) -> dict[str, float]:
    """The law's inputs at a scale.

    Raises:
        Refused: where the scale does not have one.
    """
    found = {name: scale.get(fit.columns.get(name, name), scale.get(name)) for name in fit.reference}
    if missing := [fit.columns.get(name, name) for name, value in found.items() if value is None]:
        raise Refused(f"the {fit.law.name} law needs {', '.join(missing)}, and the target does not say: add it")
    return {name: float(value) for name, value in found.items() if value is not None}


def _log_values(fit: Fit, scale: Mapping[str, float]) -> Array:
    at = {name: np.array(value / fit.reference[name]) for name, value in inputs(fit, scale).items()}
    draws = {name: np.array(fit.draws[name]) for name in fit.estimates}
    with np.errstate(all="ignore"):
        return np.asarray(np.log(np.broadcast_to(fit.law.value(draws, at), len(fit.draws["scatter"]))), dtype=float)
