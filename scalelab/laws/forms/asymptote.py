"""Loss against size alone, with what remains at infinite size: E + A/N^α.

At fixed data the asymptote E is what that data can give (Kim et al. 2025, "Pre-training under infinite compute"); at
fixed steps under muP it is what those steps can (Yao & Wang 2023, arXiv:2304.06875).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Law, Parameter

TERMS = (terms.Term("E"), terms.Term("A", falls={"params": "alpha"}))


def _law(name: str, source: str, entries: Mapping[str, Any], A: float, E: float, alpha: float) -> Law:
    parameters = {
        "E": Parameter(meaning="loss at infinite size, nats", typical=E),
        "A": Parameter(meaning="nats that one parameter would leave", typical=A),
        "alpha": Parameter(meaning="exponent in parameters", typical=alpha, positive=False),
    }
    return Law(
        name=name,
        inputs=("params",),
        output="loss_nats",
        parameters=parameters,
        form="loss = E + A/N^alpha",
        source=source,
        value=terms.value(TERMS),
        starts=terms.starts(TERMS, {"alpha": tuple(np.geomspace(0.05, 2.0, 40))}),
        derivatives=terms.derivatives(TERMS, list(parameters)),
        design=designs.log_uniform(params=designs.PARAMS),
        coefficients=entries,
    )


ASYMPTOTE = _law(
    "asymptote",
    'Kim et al. (2025), "Pre-training under infinite compute", the regularized recipe at fixed data',
    {
        "infinite_compute": {
            "parameters": {"E": 3.43, "A": 0.05 * 1e9**1.02, "alpha": 1.02},
            "source": 'Kim et al. (2025), "Pre-training under infinite compute": 3.43 + 0.05/(N/1e9)^1.02',
            "checked": "four public reviews of the paper quote the formula; that N is in billions is inferred",
            "note": "200M tokens; epochs, lr and weight decay tuned at each size; 0.05 has one digit",
        }
    },
    A=7.6e7,
    E=3.43,
    alpha=1.02,
)
MU_SCALING = _law(
    "mu_scaling",
    "Yao & Wang (arXiv:2304.06875): loss at fixed steps across widths under muP",
    {
        "mu_scaling": {
            "parameters": {"E": 2.923, "A": 2.469 * 1e6**0.423, "alpha": 0.423},
            "source": "Yao & Wang (arXiv:2304.06875): 2.469 (N/1e6)^-0.423 + 2.923",
            "checked": "reproduced from the losses in cofe-ai/Mu-scaling fit_scale_loss_prediction.py",
            "note": "training loss at 20,000 steps of GPT-2 at 7 widths; the next three are predicted within 0.3 %",
        }
    },
    A=850.0,
    E=2.92,
    alpha=0.423,
)
