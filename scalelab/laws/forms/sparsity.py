"""Mixtures of experts at fixed total parameters: Chinchilla, a term in the share of them that is active, and one in
both (Abnar et al. 2025, arXiv:2501.12370). The activation ratio is 1 - S of the paper's sparsity S.
"""

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Law, Parameter

TERMS = (
    terms.Term("e"),
    terms.Term("a", falls={"params": "alpha"}),
    terms.Term("b", falls={"tokens": "beta"}),
    terms.Term("c", falls={"activation_ratio": "lambda"}),
    terms.Term("d", falls={"activation_ratio": "delta", "params": "gamma"}),
)
GRIDS = {
    "alpha": (0.3, 0.45, 0.6, 0.8),
    "beta": (0.25, 0.4, 0.6),
    "lambda": (-0.4, -0.17, -0.06, 0.1),
    "delta": (0.05, 0.16, 0.35),
    "gamma": (0.08, 0.16, 0.3),
}
PARAMETERS = {
    "e": Parameter(meaning="irreducible loss, nats", typical=1.3),
    "a": Parameter(meaning="nats that one parameter would leave", typical=17000.0),
    "b": Parameter(meaning="nats that one token would leave", typical=5500.0),
    "c": Parameter(meaning="nats of a dense model that sparsity changes", typical=0.4),
    "d": Parameter(meaning="nats that one active parameter would leave", typical=200.0),
    "alpha": Parameter(meaning="exponent in parameters", typical=0.6, positive=False),
    "beta": Parameter(meaning="exponent in tokens", typical=0.4, positive=False),
    "lambda": Parameter(meaning="exponent in the activation ratio", typical=-0.5, positive=False),
    "delta": Parameter(meaning="exponent in the activation ratio, with size", typical=0.3, positive=False),
    "gamma": Parameter(meaning="exponent in parameters, with the activation ratio", typical=0.28, positive=False),
}
SPARSITY = Law(
    name="sparsity",
    inputs=("params", "tokens", "activation_ratio"),
    output="loss_nats",
    parameters=PARAMETERS,
    form="loss = e + a/N^alpha + b/D^beta + c/r^lambda + d/(r^delta·N^gamma), r = active share of N",
    source="Abnar et al. (arXiv:2501.12370) eq. 6",
    value=terms.value(TERMS),
    starts=terms.starts(TERMS, GRIDS),
    derivatives=terms.derivatives(TERMS, list(PARAMETERS)),
    design=designs.log_uniform(params=designs.PARAMS, tokens=designs.TOKENS, activation_ratio=(1 / 64, 1.0)),
    coefficients={
        "abnar": {
            "parameters": {
                "e": 0.94,
                "a": 16612.50,
                "b": 5455.67,
                "c": 0.4598,
                "d": 17.26,
                "alpha": 0.5962,
                "beta": 0.3954,
                "lambda": -0.1666,
                "delta": 0.1603,
                "gamma": 0.1595,
            },
            "source": "Abnar et al. (arXiv:2501.12370) Table 3",
            "checked": "from memory of the paper; a public reading note and public code have the same ten numbers",
            "columns": {"params": "params_total"},
            "note": "R² 99 % on the fitted runs, 68 % at the sparsity held out; e, c and d are hardly told apart",
        }
    },
)
