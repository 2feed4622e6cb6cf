"""The learning-rate range test: the bounds between which a search for the learning rate is worth its runs.

curve (a rising training, smoothed) → bounds (where it falls, where it rises) → ranges (every width, and their union)
"""

from scalelab.lr_range.bounds import Bounds
from scalelab.lr_range.curve import Curve
from scalelab.lr_range.ranges import LrRange, WidthRange, lr_range

__all__ = ["Bounds", "Curve", "LrRange", "WidthRange", "lr_range"]
