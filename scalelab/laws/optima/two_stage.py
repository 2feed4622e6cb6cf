"""The plain alternative to the joint fit: first every scale's optimum, then laws regressed on the optima."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.fitted import Fit
from scalelab.laws.optima.cells import Group
from scalelab.laws.optima.evidence import Evidence
from scalelab.laws.optima.noise import Noise
from scalelab.laws.optima.optimum import Optimum, optima
from scalelab.laws.optima.regression import TWO_STAGE


@dataclass(frozen=True, kw_only=True)
class TwoStage:
    """A group's noise and optima, the laws fitted to them by name, and why others were not."""

    noise: Noise
    optima: list[Optimum]
    fits: dict[str, Fit]
    not_fitted: dict[str, str]


def two_stage(
    group: Group,
    *,
    scales: Sequence[str],
    theory: Mapping[str, float] | None = None,
    draws: int = 1000,
    entropy: Sequence[int] = (0,),
) -> TwoStage:
    """The optima of a group and every law that they can carry.

    Args:
        group: cells that share every setting.
        scales: the columns that count as scale.
        theory: scale → exponent that theory gives; 0 where it names none.
        draws: of the bootstrap.
        entropy: seeds it.
    """
    found, noise, log2_lr_DC = optima(group.cells, draws=draws, rng=np.random.default_rng(entropy))
    fits: dict[str, Fit] = {}
    not_fitted: dict[str, str] = {}
    for name, (_, regress) in TWO_STAGE.items():
        # Each law has its own generator, so that adding a law changes no other's draws.
        own = np.random.default_rng([*entropy, *name.encode()])
        evidence = Evidence(optima=found, log2_lr_DC=log2_lr_DC, scales=scales, theory=theory or {}, rng=own)
        try:
            fits[name] = regress(evidence)
        except Refused as refusal:
            not_fitted[name] = str(refusal)
    return TwoStage(noise=noise, optima=found, fits=fits, not_fitted=not_fitted)
