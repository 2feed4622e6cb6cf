"""Figures of one fit: residuals, draws in pairs, the curve. Importing this imports matplotlib, so import it late.

fit, and the rows it was fitted to → style → residuals, curve, pairs
"""

from scalelab.laws.draw.curve import curve, curve_on
from scalelab.laws.draw.pairs import pairs, pairs_of
from scalelab.laws.draw.residuals import residuals

__all__ = ["curve", "curve_on", "pairs", "pairs_of", "residuals"]
