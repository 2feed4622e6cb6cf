"""Laws: how the optimal learning rate moves with scale, measured from trials.

    table of trials → cells → valley, noise → optimum → rows, censored → power, loss → fit → store, tables

A law is a file here and a line in `forms.LAWS`.
"""

from scalelab.laws.drift import Drift, drift, scale_of
from scalelab.laws.fit import GroupLaws, Laws, fit
from scalelab.laws.forms import LAWS
from scalelab.laws.law import Estimate, Fit, HoldOut, Law, Prediction
from scalelab.laws.noise import Noise
from scalelab.laws.optimum import Optimum
from scalelab.laws.store import read, write
from scalelab.laws.tables import tables

__all__ = [
    "LAWS",
    "Drift",
    "Estimate",
    "Fit",
    "GroupLaws",
    "HoldOut",
    "Law",
    "Laws",
    "Noise",
    "Optimum",
    "Prediction",
    "drift",
    "fit",
    "read",
    "scale_of",
    "tables",
    "write",
]
