"""What a setting would have cost at a scale, by that scale's own runs and no law: linear interpolation between them.

It owes nothing to the shape of a valley, but the lowest run, to which it compares, is low partly by luck: about one
standard deviation of a run's noise (the winner's curse), alike for every choice.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.interpolate import LinearNDInterpolator

from scalelab.laws.law import Array

SETTINGS = {"lr": "log2_lr", "batch_tokens": "batch_tokens"}


def measured_excess(runs: pd.DataFrame, choice: Mapping[str, float]) -> float | None:
    """Relative excess loss of a choice over the lowest of one scale's runs that ended well; None outside their grid."""
    names = [name for name in choice if name in SETTINGS and SETTINGS[name] in runs and runs[name].nunique() > 1]
    ok = runs[runs["outcome"] == "OK"]
    if not names or ok.empty:
        return None
    points = ok.groupby([SETTINGS[name] for name in names])["loss_nats"].mean()  # over seeds
    at = np.array([np.log2(choice[name]) for name in names])
    grid_NK = np.array([np.atleast_1d(key) for key in points.index], dtype=float)
    grid_NK = np.stack(
        [grid_NK[:, k] if name == "lr" else np.log2(grid_NK[:, k]) for k, name in enumerate(names)], axis=-1
    )
    found = _interpolated(grid_NK, points.to_numpy(float), at)
    return None if np.isnan(found) else float(found / points.min() - 1)


def _interpolated(grid_NK: Array, loss_N: Array, at_K: Array) -> float:
    if grid_NK.shape[1] == 1:
        order = np.argsort(grid_NK[:, 0])
        return float(np.interp(at_K[0], grid_NK[order, 0], loss_N[order], left=np.nan, right=np.nan))
    if len(grid_NK) < 4 or np.linalg.matrix_rank(grid_NK - grid_NK.mean(axis=0)) < grid_NK.shape[1]:
        return float("nan")
    return float(LinearNDInterpolator(grid_NK, loss_N)(at_K[None])[0])
