"""The loss as the surrogate sees it: normal scores, as CARBS has them, made to reach beyond what was seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NormalScores:
    """A piecewise-linear increasing map from losses to normal scores through knots at √N quantiles.

    Few knots keep the distances between losses that lie close (arXiv:2306.08055, and its published code). Beyond the
    first and the last knot the map goes on with the slope of the piece there, so that a loss better than all that were
    seen has a score too, and comes back from it.
    """

    losses_Q: Array
    scores_Q: Array

    @classmethod
    def of(cls, losses_N: Array) -> "NormalScores":
        count = len(losses_N)
        levels_Q = np.linspace(0, 1, max(2, int(np.sqrt(count))))
        levels_Q = np.clip(levels_Q, 0.5 / count, 1 - 0.5 / count)
        losses_Q, place_Q = np.unique(np.quantile(losses_N, levels_Q), return_inverse=True)
        middle_Q = np.bincount(place_Q, levels_Q) / np.bincount(place_Q)  # of those that ties share
        return cls(losses_Q=losses_Q, scores_Q=ndtri(middle_Q))

    def scores(self, losses: Array) -> Array:
        return _through(losses, self.losses_Q, self.scores_Q)

    def losses(self, scores: Array) -> Array:
        return _through(scores, self.scores_Q, self.losses_Q)


def _through(x: Array, knots_Q: Array, values_Q: Array) -> Array:
    if len(knots_Q) == 1:  # every loss the same: nothing is better than another
        return np.full_like(x, values_Q[0])
    slopes = np.diff(values_Q) / np.diff(knots_Q)
    below, above = np.minimum(x - knots_Q[0], 0) * slopes[0], np.maximum(x - knots_Q[-1], 0) * slopes[-1]
    return np.asarray(np.interp(x, knots_Q, values_Q) + below + above)
