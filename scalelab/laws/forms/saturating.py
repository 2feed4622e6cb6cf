"""Loss between an uninformed model's and the irreducible one, with over-fitting (Bryant & Liu 2026, arXiv:2605.09189).

h sums what too few parameters, too few tokens and too few unique tokens for the parameters cost. With h small this is
Chinchilla; where it is large the loss stops at L0, which a table of good runs does not determine.
"""

import itertools
from typing import Any

import numpy as np

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Array, Law, Parameter, Values

TERMS = (
    terms.Term("a", falls={"params": "alpha"}),
    terms.Term("b", falls={"tokens": "beta"}),
    terms.Term("c", grows={"params": "gamma"}, falls={"unique_tokens": "delta"}),
)
EXPONENTS = tuple(itertools.product((0.2, 0.35, 0.55), (0.2, 0.35, 0.55), (0.25, 0.5, 0.9), (0.3, 0.5, 0.9)))


def _value(parameters: Values, inputs: Values) -> Any:
    h = terms.value(TERMS)(parameters, inputs)
    return parameters["E"] + (parameters["L0"] - parameters["E"]) * h / (1.0 + h)


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    """Given E, L0 and the exponents, h = (loss - E)/(L0 - loss) is linear in a, b and c."""
    named = dict(zip(("alpha", "beta", "gamma", "delta"), np.array(EXPONENTS).T[:, :, None], strict=True))
    basis_RNT = np.stack([np.broadcast_to(t.factor(named, inputs), (len(EXPONENTS), len(output))) for t in TERMS], -1)
    found: dict[str, list[Array]] = {name: [] for name in PARAMETERS}
    for low, high in itertools.product((0.6, 0.9), (1.3, 2.0, 4.0)):
        E, L0 = low * output.min(), high * output.max()
        solved = terms.nonnegative(basis_RNT, (output - E) / (L0 - output)).T
        row = {"E": E, "L0": L0, "a": solved[0], "b": solved[1], "c": solved[2]}
        for name, value in (row | {name: value[:, 0] for name, value in named.items()}).items():
            found[name].append(np.broadcast_to(value, (len(EXPONENTS),)))
    return {name: np.concatenate(values) for name, values in found.items()}


PARAMETERS = {
    "E": Parameter(meaning="irreducible loss, nats", typical=1.7),
    "L0": Parameter(meaning="loss of a model that knows nothing, nats; about log of the vocabulary", typical=10.8),
    "a": Parameter(meaning="h that one parameter would leave", typical=70.0),
    "b": Parameter(meaning="h that one token would leave", typical=330.0),
    "c": Parameter(meaning="h of one parameter on one unique token", typical=0.35),
    "alpha": Parameter(meaning="exponent in parameters", typical=0.35, positive=False),
    "beta": Parameter(meaning="exponent in tokens", typical=0.37, positive=False),
    "gamma": Parameter(meaning="exponent in parameters, of over-fitting", typical=0.4, positive=False),
    "delta": Parameter(meaning="exponent in unique tokens, of over-fitting", typical=0.5, positive=False),
}
SATURATING = Law(
    name="saturating",
    inputs=("params", "tokens", "unique_tokens"),
    output="loss_nats",
    parameters=PARAMETERS,
    form="loss = E + (L0 - E)·h/(1 + h), h = a/N^alpha + b/D^beta + c·N^gamma/U^delta",
    source="Bryant & Liu (arXiv:2605.09189)",
    value=_value,
    starts=_starts,
    design=designs.repeated,
)
