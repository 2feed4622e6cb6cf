"""What a law of the optimal learning rate may be regressed on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.laws.law import Array
from scalelab.laws.optima.optimum import Optimum


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """A group's optima, draws of shape (draws, cells) of their log2 LR (NaN where not fitted), the columns that count
    as scale, exponents that theory fixes, and a generator for the bootstrap."""

    optima: Sequence[Optimum]
    log2_lr_DC: Array
    scales: Sequence[str]
    theory: Mapping[str, float]
    rng: np.random.Generator
