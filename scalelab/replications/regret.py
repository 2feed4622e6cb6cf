"""The regret of a setting at one scale, with what the noise of the runs there leaves open."""

import math

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import SCALES
from scalelab.laws.optima.cells import groups
from scalelab.laws.optima.optimum import optima
from scalelab.replications.effects import for_laws
from scalelab.replications.finding import Finding

DRAWS = 1000  # of the bootstrap of the optimum


def regret(runs: pd.DataFrame, lr: float, *, name: str) -> Finding:
    """What a learning rate loses, in nats, beside the optimum of the valley fitted to the runs of one scale.

    The interval is what it loses over the 95 % interval of that optimum: from 0 where `lr` may be the best itself.

    Raises:
        Refused: where the runs are of several scales or groups, or their optimum is not inside the grid.
    """
    found = groups(for_laws(runs), scales=tuple(SCALES))
    if len(found) != 1 or len(found[0].cells) != 1:
        raise Refused(f"{name}: give the runs of one group at one scale")
    (optimum,), _, _ = optima(found[0].cells, draws=DRAWS, rng=np.random.default_rng(0))
    if optimum.lr is None or optimum.lr_low is None or optimum.lr_high is None:
        raise Refused(f"{name}: no valley there ({optimum.status}): {optimum.advice}")
    # As far from the optimum as the ends of its interval say it may be.
    value, *ends = (
        optimum.excess_nats(math.log2(optimum.lr * lr / best)) for best in (optimum.lr, optimum.lr_low, optimum.lr_high)
    )
    low = 0.0 if optimum.lr_low <= lr <= optimum.lr_high else min(ends)
    return Finding(name=name, value=value, low=min(low, value), high=max(*ends, value), unit="nats", n=len(runs))
