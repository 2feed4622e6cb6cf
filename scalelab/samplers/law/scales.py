"""The scales among which runs are chosen."""

import itertools

import numpy as np
from scipy.stats import qmc

from scalelab.samplers.law.coordinates import Coordinates, Spots

MANY = 128  # a power of 2: Sobol's points


def considered(coordinates: Coordinates) -> Spots:
    """Low-discrepancy points of the scale box and its corners, in logs, as the distributions round them, each once."""
    axes = coordinates.scales
    if not axes:
        return coordinates.spots([{}])
    unit_MS = np.concatenate([
        qmc.Sobol(len(axes), scramble=False).random(MANY),
        np.array(list(itertools.product((0.0, 1.0), repeat=len(axes)))),
    ])  # fmt: skip
    low_S, high_S = np.array([axis.range for axis in axes]).T
    found = {
        tuple(axis.outward(unit) for axis, unit in zip(axes, row, strict=True)): None
        for row in low_S + unit_MS * (high_S - low_S)
    }
    return coordinates.spots([dict(zip([axis.name for axis in axes], values, strict=True)) for values in found])
