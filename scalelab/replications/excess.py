"""What one kind of run loses beside another at every scale, each at its own best setting, seed by seed."""

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.replications.effects import tuned


def excess_by_seed(runs: pd.DataFrame, beside: pd.DataFrame, *, along: str, over: str = "lr") -> pd.DataFrame:
    """Loss of `runs` minus that of `beside`, in nats: a row a value of `along`, a column a seed that both have.

    Each is at its best `over` there, chosen by the mean of its seeds. Infinite where a run diverged at that too.

    Raises:
        Refused: where they have no scale or no seed in common.
    """
    apart = _at_best(runs, along, over) - _at_best(beside, along, over)
    both = apart.dropna(how="all").dropna(axis=1)
    if both.empty:
        raise Refused(f"nothing to compare: no {along} and seed that both were run at")
    return both


def _at_best(runs: pd.DataFrame, along: str, over: str) -> pd.DataFrame:
    best = tuned(runs, along=along, over=over)[[along, over]]
    kept = runs.merge(best, on=[along, over])
    losses: pd.DataFrame = (
        kept.assign(loss_nats=kept["loss_nats"].where(kept["outcome"] == "OK", np.inf))
        .groupby([along, "seed"])["loss_nats"]
        .mean()
        .unstack("seed")
    )
    return losses
