"""Where to look: draws around the search's centre, and Gaussian steps from points that are known to be good."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from scalelab.samplers.dimension import Dimension
from scalelab.samplers.space import Space

Array = NDArray[np.float64]
OTHER_CHOICE = 0.3  # probability that a moving categorical takes another choice: assumed


def drawn(dimension: Dimension, count: int, rng: np.random.Generator, *, radius: float = 1.0) -> Array:
    """Columns of `count` values around the dimension's centre: Gaussian within the bounds, choices uniformly.

    An infinite radius draws uniformly between the bounds (in transformed units); where those are infinite themselves,
    it is as a radius of 1.
    """
    if dimension.is_categorical:
        return np.asarray(np.eye(dimension.width)[rng.integers(dimension.width, size=count)])
    (low, high), centre = dimension.bounds, dimension.columns([dimension.centre])[0, 0]
    if np.isinf(radius) and np.isfinite(high - low):
        return rng.uniform(low, high, size=(count, 1))
    scale = dimension.scale * (1.0 if np.isinf(radius) else radius)
    steps = ndtri(rng.uniform(ndtr((low - centre) / scale), ndtr((high - centre) / scale), size=(count, 1)))
    return np.asarray(np.clip(centre + scale * steps, low, high))


def around_centre(space: Space, count: int, rng: np.random.Generator, *, radius: float) -> Array:
    """`count` points around the centre, on what the parameters can take."""
    return space.rounded(np.hstack([drawn(dimension, count, rng, radius=radius) for dimension in space.dimensions]))


def around(space: Space, origins_FD: Array, count: int, rng: np.random.Generator, *, radius: float) -> Array:
    """`count` points around the origins, on what the parameters can take.

    Every step moves a share of the dimensions, the share itself drawn: in many dimensions, too, some steps are short.
    What would leave the bounds stops at them, where the best size of a run often is.
    """
    x_MD = origins_FD[rng.integers(len(origins_FD), size=count)]
    dimensions = len(space.dimensions)
    moving_MK = rng.random((count, dimensions)) < rng.uniform(1 / dimensions, 1, size=(count, 1))
    moving_MK[np.arange(count), rng.integers(dimensions, size=count)] = True
    step_MD = rng.normal(size=x_MD.shape) * space.scale_D * radius
    for place, (dimension, at) in enumerate(zip(space.dimensions, space.slices, strict=True)):
        moving_M = moving_MK[:, place]
        if dimension.is_categorical:
            moving_M = moving_M & (rng.random(count) < OTHER_CHOICE)
            x_MD[moving_M, at] = drawn(dimension, int(moving_M.sum()), rng)
        else:
            x_MD[moving_M, at] += step_MD[moving_M, at]
    return space.rounded(x_MD)


def fresh(space: Space, x_MD: Array, tried_ND: Array) -> Array:
    """Those that are other settings than what was tried, each once and in order."""
    tried = {key.tobytes() for key in space.keys(tried_ND)}
    keys = [key.tobytes() for key in space.keys(x_MD)]
    places = {key: place for place, key in reversed(list(enumerate(keys))) if key not in tried}
    return x_MD[sorted(places.values())]
