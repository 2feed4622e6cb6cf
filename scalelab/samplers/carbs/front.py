"""What was measured, replicates together, and the front of those that nothing cheaper beats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalelab.samplers.evidence import Seen
from scalelab.samplers.space import Space

Array = NDArray[np.float64]
Integers = NDArray[np.intp]
CHEAPEST = 0.2  # the front begins with the best of this cheapest share of what was measured (arXiv:2306.08055)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Settings that ended well: G different ones with `count_G` replicates each; losses and ln costs are means."""

    params_G: Sequence[Mapping[str, Any]]
    x_GD: Array
    loss_G: Array
    log_cost_G: Array
    feasible_G: NDArray[np.bool_]
    count_G: Integers


def measured(seen: Sequence[Seen], space: Space) -> Measured:
    """The settings of trials that ended well; feasible where no replicate broke a constraint."""
    x_ND = space.encode([one.params for one in seen])
    _, first_G, group_N = np.unique(space.keys(x_ND), axis=0, return_index=True, return_inverse=True)
    count_G = np.bincount(group_N)
    broken_N = np.array([not one.feasible for one in seen], float)
    return Measured(
        params_G=[seen[place].params for place in first_G],
        x_GD=x_ND[first_G],
        loss_G=np.bincount(group_N, [one.loss for one in seen]) / count_G,
        log_cost_G=np.bincount(group_N, np.log([one.cost for one in seen])) / count_G,
        feasible_G=np.bincount(group_N, broken_N) == 0,
        count_G=count_G,
    )


def front(settings: Measured) -> Integers:
    """Places of the settings on the front, cheapest first; none where none is feasible.

    It is the front of `study.best_trials`, but for two things: replicates count by their mean, and what is cheaper than
    the best of the cheapest fifth is left out, since it is not where anyone wants to search.
    """
    places_G = np.flatnonzero(settings.feasible_G)
    if not len(places_G):
        return places_G
    order_G = places_G[np.lexsort((settings.loss_G[places_G], settings.log_cost_G[places_G]))]
    loss_G = settings.loss_G[order_G]
    best_before_G = np.r_[np.inf, np.minimum.accumulate(loss_G)[:-1]]
    on_front = order_G[loss_G < best_before_G]
    cheap = np.quantile(settings.log_cost_G[places_G], CHEAPEST)
    first = max(int(np.sum(settings.log_cost_G[on_front] <= cheap)) - 1, 0)
    return np.asarray(on_front[first:])
