"""What each scale says by itself, once the joint fit has said what all of them share."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from scalelab.laws.joint.maximum import Solved, own_levels
from scalelab.laws.joint.result import CellBest


def cells(solved: Solved, scales: Sequence[Mapping[str, float]], reference: Mapping[str, float]) -> Iterator[CellBest]:
    """What each cell says by itself: its effects with the pull towards the law taken out again."""
    model, state = solved.model, solved.state
    first = np.searchsorted(model.cell_N, np.arange(model.cells))
    has = np.bincount(model.cell_N, minlength=model.cells) > 0
    level_C, level_sd_C = own_levels(state, solved.spread)
    for c, scale in enumerate(scales):
        settings: dict[str, tuple[float, float]] = {}
        for q in sorted(model.coordinates, key=lambda q: q.name == "lr") if has[c] else ():
            covariate_K = q.covariate_NK[first[c]].copy()
            if "batch_tokens" in q.covariates:  # at the cell's own best batch, or where none was found at its mean one
                place = q.covariates.index("batch_tokens")
                of_cell = model.cell_N == c
                covariate_K[place] = (
                    settings["batch_tokens"][0] - math.log(reference["batch_tokens"])
                    if "batch_tokens" in settings
                    else q.covariate_NK[of_cell, place].mean()
                )
            centre = state.theta_P[q.first] + covariate_K @ state.theta_P[q.centre][1:]
            shrunk = float(state.own_CEE[c, q.place, q.place])
            told = max(1 / shrunk - solved.spread.effect_E[q.place] ** -2.0, 1e-6)
            settings[q.name] = (float(centre + state.effect_CE[c, q.place] / (shrunk * told)), float(told**-0.5))
        yield CellBest(
            scale=dict(scale), log_loss=float(level_C[c]), log_loss_sd=float(level_sd_C[c]), settings=settings,
        )  # fmt: skip
