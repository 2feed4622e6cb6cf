"""Chinchilla and a penalty on repeated data, the more of it the larger the model (Lovelace et al. 2026,
arXiv:2605.01640).
"""

from typing import Any

import numpy as np

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Array, Law, Parameter, Values

TERMS = (
    terms.Term("E"),
    terms.Term("A", falls={"params": "alpha"}),
    terms.Term("B", falls={"tokens": "beta"}),
    terms.Term("P", grows={"repeats": "delta", "params_per_unique": "kappa"}),
)
PARAMETERS = {
    "E": Parameter(meaning="irreducible loss, nats", typical=1.8),
    "A": Parameter(meaning="nats that one parameter would leave", typical=480.0),
    "B": Parameter(meaning="nats that one token would leave", typical=2100.0),
    "P": Parameter(meaning="nats of one repeat with a parameter a unique token", typical=0.05),
    "alpha": Parameter(meaning="exponent in parameters", typical=0.35, positive=False),
    "beta": Parameter(meaning="exponent in tokens", typical=0.37, positive=False),
    "delta": Parameter(meaning="exponent in repeats", typical=0.7, positive=False),
    "kappa": Parameter(meaning="exponent in parameters a unique token", typical=0.5, positive=False),
}
GRIDS = {
    "alpha": (0.15, 0.25, 0.35, 0.5, 0.8),
    "beta": (0.15, 0.25, 0.35, 0.5, 0.8),
    "delta": (0.3, 0.6, 1.0, 1.6),
    "kappa": (0.25, 0.5, 0.8, 1.2),
}


def _derived(inputs: Values) -> dict[str, Any]:
    repeats = inputs["tokens"] / inputs["unique_tokens"] - 1.0
    return {
        **inputs,
        "repeats": np.maximum(repeats, 1e-30),  # 0^delta is 0; this is near enough, and has a logarithm
        "params_per_unique": inputs["params"] / inputs["unique_tokens"],
    }


def _value(parameters: Values, inputs: Values) -> Any:
    return terms.value(TERMS)(parameters, _derived(inputs))


def _derivatives(parameters: Values, inputs: Values) -> tuple[Array, Array]:
    return terms.derivatives(TERMS, list(PARAMETERS))(parameters, _derived(inputs))


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    return terms.starts(TERMS, GRIDS)(_derived(inputs), output)


REPEAT_PENALTY = Law(
    name="repeat_penalty",
    inputs=("params", "tokens", "unique_tokens"),
    output="loss_nats",
    parameters=PARAMETERS,
    form="loss = E + A/N^alpha + B/D^beta + P·(D/U - 1)^delta·(N/U)^kappa",
    source="Lovelace et al. (arXiv:2605.01640), in the form that a survey of June 2026 by L. Weng gives",
    value=_value,
    starts=_starts,
    derivatives=_derivatives,
    design=designs.repeated,
)
