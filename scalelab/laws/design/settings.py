"""Grids of settings about a predicted optimum: values an octave or a whole number of half octaves apart."""

import math

HALF = 0.5  # octave: grids of different scales share their values
LEAST_SIDE = 1.0  # octaves to either side of the prediction: three points are the fewest that bracket an optimum
MOST_STEPS = 3  # to either side, so that a grid has at most seven points


def ladder(
    centre: float, half_octaves: float, *, wider: int = 0, unit: float = 1.0, whole: bool = False
) -> tuple[float, ...]:
    """Values unit·2^k about `centre` that reach `half_octaves` to either side, and `wider` steps further.

    k is a multiple of ½, or an integer where `whole`.

    >>> ladder(0.01, 1.0)
    (0.005524271728, 0.01104854346, 0.02209708691)
    >>> len(ladder(0.01, 2.6)), len(ladder(0.01, 1.0, wider=1))
    (7, 5)
    """
    side = max(half_octaves, LEAST_SIDE)
    grain = 1.0 if whole else HALF
    spacing = max(math.ceil(side / MOST_STEPS / grain - 1e-9) * grain, 1.0)
    steps = min(math.ceil(side / spacing - 1e-9) + wider, MOST_STEPS)
    middle = round(math.log2(centre / unit) / grain) * grain
    return tuple(float(f"{unit * 2 ** (middle + k * spacing):.10g}") for k in range(-steps, steps + 1))
