"""Learning-rate sensitivity: what a run loses, on average, where its learning rate is anywhere in a swept range.

arXiv:2309.14322 §2.2: for learning rates η in [a, b] and the loss ℓ(η) of training with each,

    sensitivity = E_η [ min(ℓ(η), ℓ_0) − ℓ* ],   ℓ* = min over η of ℓ(η),   ℓ_0 the loss at initialisation

so that a run that diverged counts as one that learned nothing. There [a, b] is 3e-4 to 3e-1; here it is what was swept,
or the part of it that is asked for, and E is the trapezoid rule over log η.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scalelab.errors import Refused

COLUMNS = ("lr", "loss_nats", "outcome")


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The sensitivity of one size, `scale` by column; `diverged` counts runs, `lrs` learning rates."""

    scale: dict[str, Any]
    nats: float
    best_loss_nats: float
    lr_low: float
    lr_high: float
    lrs: int
    diverged: int


def lr_sensitivity(
    table: pd.DataFrame,
    *,
    initial_loss_nats: float,
    by: Sequence[str] = ("width",),
    lr_low: float = 0.0,
    lr_high: float = np.inf,
) -> tuple[Sensitivity, ...]:
    """The sensitivity of every size of a table of runs.

    Args:
        table: a run a row, with `lr`, `loss_nats`, `outcome` (OK or DIVERGED; others are left out) and the columns
            of `by`; runs of one size and lr are seeds, averaged first.
        initial_loss_nats: ℓ_0, for language models about ln(vocabulary).
        by: the columns that tell sizes apart, parametrization included where there are several.
        lr_low, lr_high: the range, within what was swept.

    Raises:
        Refused: on a missing column, fewer than two learning rates, no run better than ℓ_0, or sizes that were swept
            over different ranges, whose expectations are not of one thing.
    """
    if missing := [name for name in (*COLUMNS, *by) if name not in table]:
        raise Refused(f"sensitivity needs the column {', '.join(missing)}: the table has {', '.join(map(str, table))}")
    kept = table[table["outcome"].isin(["OK", "DIVERGED"]) & table["lr"].between(lr_low, lr_high)]
    found = tuple(
        _of_size(dict(zip(by, key, strict=True)), rows, initial_loss_nats)
        for key, rows in kept.groupby(list(by), sort=True)
    )
    ranges = sorted({(each.lr_low, each.lr_high) for each in found})
    if len(ranges) > 1:
        said = ", ".join(f"{low:g} to {high:g}" for low, high in ranges)
        raise Refused(f"sizes were swept over different ranges ({said}): give lr_low and lr_high that all cover")
    return found


def _of_size(scale: dict[str, Any], rows: pd.DataFrame, initial: float) -> Sensitivity:
    at = ", ".join(f"{name} {value}" for name, value in scale.items())
    diverged = rows["outcome"].eq("DIVERGED")
    loss = rows["loss_nats"].where(~diverged, initial).fillna(initial).clip(upper=initial)
    mean = loss.groupby(rows["lr"]).mean().sort_index()
    if len(mean) < 2:
        raise Refused(f"{at}: sensitivity needs two learning rates or more")
    best = float(mean.min())
    if best >= initial:
        raise Refused(f"{at}: no run ended below initial_loss_nats={initial:g}")
    x, excess = np.log(mean.index.to_numpy(dtype=float)), mean.to_numpy() - best
    return Sensitivity(
        scale=scale,
        nats=float(np.diff(x) @ (excess[1:] + excess[:-1]) / 2 / (x[-1] - x[0])),
        best_loss_nats=best,
        lr_low=float(mean.index[0]),
        lr_high=float(mean.index[-1]),
        lrs=len(mean),
        diverged=int(diverged.sum()),
    )
