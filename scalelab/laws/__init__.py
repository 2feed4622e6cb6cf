"""Laws: how loss and the best hyperparameters move with scale, measured from runs.

    table → checked → optima (two stages), joint (one likelihood) → carried (solve) → validate → study → store, design

`study(table)` fits all that a table can carry; `fit(table, law)` one law. A law is a file in `forms/` and a line in
`forms.LAWS`.
"""

from scalelab.laws.compute_optimal import IsoFlop
from scalelab.laws.design import NextRuns, next_runs
from scalelab.laws.drift import Drift, drift, scale_of
from scalelab.laws.envelope import envelope
from scalelab.laws.fitted import Estimate, Fit, HoldOut, Prediction
from scalelab.laws.forms import LAWS, PUBLISHED, published
from scalelab.laws.group import GroupLaws
from scalelab.laws.isoflop import isoflop
from scalelab.laws.joint.result import Joint, Setting
from scalelab.laws.law import Law, Parameter, Published
from scalelab.laws.one import fit
from scalelab.laws.optima.noise import Noise
from scalelab.laws.optima.optimum import Optimum
from scalelab.laws.solve.objective import LEAST_ABSOLUTE, LEAST_SQUARES, Objective
from scalelab.laws.store import read, write
from scalelab.laws.study import Laws, study
from scalelab.laws.tables import tables

__all__ = [
    "LAWS",
    "LEAST_ABSOLUTE",
    "LEAST_SQUARES",
    "PUBLISHED",
    "Drift",
    "Estimate",
    "Fit",
    "GroupLaws",
    "HoldOut",
    "IsoFlop",
    "Joint",
    "Law",
    "Laws",
    "NextRuns",
    "Noise",
    "Objective",
    "Optimum",
    "Parameter",
    "Prediction",
    "Published",
    "Setting",
    "drift",
    "envelope",
    "fit",
    "isoflop",
    "next_runs",
    "published",
    "read",
    "scale_of",
    "study",
    "tables",
    "write",
]
