"""Chinchilla's sum under a power: the two shortages need not add (Busbridge et al. 2025, arXiv:2502.08606).

gamma = 1 is Chinchilla; with E = 0 and beta = 1 it is Kaplan's joint law.
"""

import itertools
from typing import Any

import numpy as np

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Array, Law, Parameter, Values

# Of the starts: gamma, the share of the smallest loss that is irreducible, and each exponent times gamma.
GAMMAS = (0.15, 0.25, 0.4, 0.6, 1.0)
IRREDUCIBLE = (0.3, 0.6, 0.8, 0.93)
SLOPES = (0.1, 0.17, 0.25, 0.4, 0.7)


def _value(parameters: Values, inputs: Values) -> Any:
    shortage = parameters["A"] * np.exp(-parameters["alpha"] * np.log(inputs["params"])) + parameters["B"] * np.exp(
        -parameters["beta"] * np.log(inputs["tokens"])
    )
    return parameters["E"] + np.exp(parameters["gamma"] * np.log(shortage))


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    """Given E, gamma and the exponents, (loss - E)^(1/gamma) is linear in A and B."""
    slopes_SP = np.array(list(itertools.product(SLOPES, SLOPES)))
    found: dict[str, list[Array]] = {name: [] for name in PARAMETERS}
    for gamma, share in itertools.product(GAMMAS, IRREDUCIBLE):
        alpha, beta = slopes_SP.T / gamma
        basis_SNT = np.stack(
            [np.exp(-np.outer(alpha, np.log(inputs["params"]))), np.exp(-np.outer(beta, np.log(inputs["tokens"])))],
            axis=-1,
        )
        E = share * output.min()
        A, B = terms.nonnegative(basis_SNT, (output - E) ** (1 / gamma)).T
        row = {"E": E, "A": A, "B": B, "alpha": alpha, "beta": beta, "gamma": gamma}
        for name, value in row.items():
            found[name].append(np.broadcast_to(value, alpha.shape))
    return {name: np.concatenate(values) for name, values in found.items()}


PARAMETERS = {
    "E": Parameter(meaning="irreducible loss, nats", typical=1.22),
    "A": Parameter(meaning="shortage that one parameter would leave", typical=3355.0),
    "B": Parameter(meaning="shortage that one token would leave", typical=18186.0),
    "alpha": Parameter(meaning="exponent in parameters", typical=0.408, positive=False),
    "beta": Parameter(meaning="exponent in tokens", typical=0.431, positive=False),
    "gamma": Parameter(meaning="power of the summed shortages", typical=0.452),
}
GAMMA = Law(
    name="gamma",
    inputs=("params", "tokens"),
    output="loss_nats",
    parameters=PARAMETERS,
    form="loss = E + (A/N^alpha + B/D^beta)^gamma",
    source="Busbridge et al. (arXiv:2502.08606); as code in NX-AI/xlstm_scaling_laws",
    value=_value,
    starts=_starts,
    design=designs.log_uniform(params=designs.PARAMS, tokens=designs.TOKENS),
    coefficients={
        "busbridge": {
            "parameters": {"E": 1.22, "A": 3355.0, "B": 18186.0, "alpha": 0.408, "beta": 0.431, "gamma": 0.452},
            "source": "Busbridge et al. (arXiv:2502.08606), supervised models on C4",
            "checked": "from memory of the paper",
        }
    },
)
