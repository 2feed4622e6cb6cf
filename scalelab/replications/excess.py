"""What one kind of run loses beside another at every scale, each at its own best setting, seed by seed."""

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.replications.effects import infinite_where_lost, tuned


def excess_by_seed(runs: pd.DataFrame, beside: pd.DataFrame, *, along: str, over: str = "lr") -> pd.DataFrame:
    """Loss of `runs` minus that of `beside`, in nats: a row a value of `along`, a column a seed that both have.

    Each is at its best `over` there, chosen by the mean of its seeds. Infinite where a run diverged at that too, minus
    infinity where that of `beside` did.

    Raises:
        Refused: where they have no scale or no seed in common, or both diverged with one.
    """
    ours, theirs = _at_best(runs, along, over).align(_at_best(beside, along, over), join="inner")
    known = ours.notna() & theirs.notna()
    known = known.loc[known.any(axis=1)]
    seeds = known.columns[known.all(axis=0)]
    if known.empty or not len(seeds):
        raise Refused(f"nothing to compare: no {along} and seed that both were run at")
    ours, theirs = (each.loc[known.index, seeds] for each in (ours, theirs))
    lost = np.argwhere(np.isinf(ours.to_numpy(float)) & np.isinf(theirs.to_numpy(float)))
    if len(lost):
        row, column = lost[0]
        raise Refused(
            f"both diverged at {along} {known.index[row]:g} with seed {seeds[column]} at the best {over} of each: there"
            " is no difference: leave that out or try lower ones"
        )
    return ours - theirs


def _at_best(runs: pd.DataFrame, along: str, over: str) -> pd.DataFrame:
    best = tuned(runs, along=along, over=over)[[along, over]]
    kept = runs.merge(best, on=[along, over])
    return infinite_where_lost(kept).groupby([along, "seed"])["loss_nats"].mean().unstack("seed")
