"""What the image models share: an image is a record of `context` pixels, row by row, and a label, which they predict.

A token is a pixel, so that a batch, a horizon and a cost mean for images what they mean for text. A matrix that is
multiplied with once a place of the image is used places/pixels times a token (`Tensor.uses`).
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from scalelab.errors import Refused
from scalelab.models.tensors import Tensor


def side(pixels: int) -> int:
    """The side of a square image; `Refused` where there is none."""
    found = math.isqrt(pixels)
    if found * found != pixels:
        raise Refused(f"context={pixels} is no square: an image is as wide as high, try context={found**2}")
    return found


def used(tensors: Iterable[Tensor], places: int, pixels: int) -> list[Tensor]:
    """The same tensors, multiplied with at `places` places of an image of `pixels`."""
    return [replace(tensor, uses=tensor.uses * Fraction(places, pixels)) for tensor in tensors]
