"""Short trainings, looked at as numbers with a verdict: what keeps its size as a network grows, and what does not.

walk (a few steps, seen from outside), slopes (lines through sizes) → coordinate, gradients, lazy, stability, spectrum
"""

from scalelab.probe.coordinate import TOLERANCE, Check, Slope, check_lr, coordinate_check
from scalelab.probe.gradients import ClassSlope, GradientCheck, gradient_check
from scalelab.probe.growth import Growth
from scalelab.probe.lazy import Departure, Laziness, lazy
from scalelab.probe.slopes import Estimate
from scalelab.probe.spectrum import MatrixSpectrum, Spectrum, spectrum
from scalelab.probe.stability import Stability, stability

__all__ = [
    "TOLERANCE",
    "Check",
    "ClassSlope",
    "Departure",
    "Estimate",
    "GradientCheck",
    "Growth",
    "Laziness",
    "MatrixSpectrum",
    "Slope",
    "Spectrum",
    "Stability",
    "check_lr",
    "coordinate_check",
    "gradient_check",
    "lazy",
    "spectrum",
    "stability",
]
