"""Loss against parameters and tokens: E + A/N^α + B/D^β (Hoffmann et al. 2022, arXiv:2203.15556 eq. 2)."""

import math

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Law, Parameter

TERMS = (terms.Term("E"), terms.Term("A", falls={"params": "alpha"}), terms.Term("B", falls={"tokens": "beta"}))
PARAMETERS = {
    "E": Parameter(meaning="irreducible loss, nats", typical=1.8),
    "A": Parameter(meaning="nats that one parameter would leave", typical=480.0),
    "B": Parameter(meaning="nats that one token would leave", typical=2100.0),
    "alpha": Parameter(meaning="exponent in parameters", typical=0.35, positive=False),
    "beta": Parameter(meaning="exponent in tokens", typical=0.37, positive=False),
}

CHINCHILLA = Law(
    name="chinchilla",
    inputs=("params", "tokens"),
    output="loss_nats",
    parameters=PARAMETERS,
    form="loss = E + A/N^alpha + B/D^beta",
    source="Hoffmann et al. (arXiv:2203.15556) eq. 2",
    value=terms.value(TERMS),
    starts=terms.starts(TERMS),
    derivatives=terms.derivatives(TERMS, list(PARAMETERS)),
    design=designs.log_uniform(params=designs.PARAMS, tokens=designs.TOKENS),
    coefficients={
        "hoffmann": {
            "parameters": {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28},
            "source": "Hoffmann et al. (arXiv:2203.15556) eq. 10",
            "checked": "from memory of the paper",
            "columns": {"params": "params_total"},
            "note": "rounded; not the minimum of the stated objective (arXiv:2404.10102)",
        },
        "hoffmann_exact": {
            "parameters": {
                "A": math.exp(6.0073404),
                "B": math.exp(6.0179186),
                "E": math.exp(0.5267228),
                "alpha": 0.33917084,
                "beta": 0.2849083,
            },
            "source": "the TeX source of Hoffmann et al. (arXiv:2203.15556), as Besiroglu et al. quote it",
            "checked": "read in epoch-research/analyzing-chinchilla data_analysis.ipynb",
            "columns": {"params": "params_total"},
            "note": "before rounding; not the minimum of the stated objective (arXiv:2404.10102)",
        },
        "epoch": {
            "parameters": {"A": 482.01, "B": 2085.43, "E": 1.8172, "alpha": 0.3478, "beta": 0.3658},
            "source": "Besiroglu et al. (arXiv:2404.10102) Table 1",
            "checked": "reproduced from the released points (least absolute deviations)",
            "columns": {"params": "params_total"},
        },
    },
)
