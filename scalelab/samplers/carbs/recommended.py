"""The setting to run at a cost: where the loss is expected to be lowest; uncertain and far off count as worse."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from scalelab.samplers.carbs.candidates import around
from scalelab.samplers.carbs.known import Known

Array = NDArray[np.float64]
CAUTION = 1.0  # standard deviations added to the expected loss: measured; none recommends what was never tried
RADII = (1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.2, 0.1, 0.1)  # in scales, of one round of steps after another
STEPS, KEPT = 400, 20  # of a round
NEAR = 0.05  # of ln cost that is near enough
FAR = 0.1  # normal scores, times half the squared distance (in scales) from the nearest setting that ended: measured;
# at a cost far beyond those that were run, a setting of which nothing is known may diverge
OFF = 3.0  # normal scores that a setting loses for each e-fold by which its cost is farther off


def recommended(study: Known, cost: float | None, rng: np.random.Generator) -> Array:
    """A point whose predicted cost is near `cost`, or near that of the front's most expensive setting.

    Found by rounds of Gaussian steps from the front; at a cost that nothing reaches it is the nearest that is reached.
    """
    x_MD = study.front_FD
    target = math.log(cost) if cost is not None else float(study.settings.log_cost_G[study.front_F[-1]])
    for radius in RADII:
        stepped_MD = around(study.space, x_MD, STEPS, rng, radius=radius)
        x_MD = np.vstack([x_MD, stepped_MD])
        x_MD = x_MD[np.argsort(_worse(study, x_MD, target), kind="stable")[:KEPT]]
    return np.asarray(x_MD[0])


def _worse(study: Known, x_MD: Array, target: float) -> Array:
    mean_M, sd_M = study.model.score(x_MD)
    off_M = np.maximum(np.abs(study.model.log_cost(x_MD) - target) - NEAR, 0.0)
    far_M = cdist(x_MD / study.space.scale_D, study.settings.x_GD / study.space.scale_D).min(axis=1)
    chance_M = study.model.odds.log_probability(x_MD)
    return np.asarray(mean_M + CAUTION * sd_M + FAR * far_M**2 / 2 + OFF * off_M - chance_M)
