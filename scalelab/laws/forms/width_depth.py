"""The tuned learning rate against width and depth, to hold against what a parametrization promises.

Theory speaks of exponents only: 0 where a table transfers, as the tuned rate is the one that its rules multiply.
"""

from typing import Any

from scalelab.laws.forms import designs
from scalelab.laws.forms.powers import NOT_GIVEN, power_law

YANG, DEY = "Yang et al. (arXiv:2203.03466)", "Dey et al. (arXiv:2505.01618) Table 1"


def _theory(x: str, exponent: float, source: str, note: str) -> dict[str, Any]:
    return {
        "parameters": {"c": NOT_GIVEN, f"p_{x}": exponent},
        "source": source,
        "checked": "from memory of the paper",
        "note": f"theory, exponent only; {note}",
    }


POWER_WIDTH = power_law(
    name="power_width",
    output="lr",
    coefficient=0.5,
    exponents={"width": -1.0},
    source=YANG,
    design=designs.log_uniform(width=(128.0, 16384.0)),
    coefficients={
        "mup": _theory("width", 0.0, YANG, "Adam; hidden rates are the tuned one over width"),
        "sp": _theory("width", -1.0, YANG, "Adam with one rate, which the hidden weights limit"),
    },
)
POWER_DEPTH = power_law(
    name="power_depth",
    output="lr",
    coefficient=0.01,
    exponents={"depth": -0.5},
    source=DEY,
    design=designs.log_uniform(depth=(2.0, 128.0)),
    coefficients={
        "completep": _theory("depth", 0.0, DEY, "α = 1 and ½: the table moves the rates itself"),
        "residual_half": _theory("depth", -0.5, DEY, "Adam, branches over √depth, one rate for all"),
    },
)
