"""A power that turns smoothly into another one: one break in tokens (Caballero et al. 2022, arXiv:2210.14891)."""

import itertools
from typing import Any

import numpy as np

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Array, Law, Parameter, Values


def _softplus(z: Any) -> Any:
    """log(1 + e^z) without overflow; which branch is taken depends on the real part only."""
    large = np.real(z) > 30
    return np.where(large, z, np.log1p(np.exp(np.where(large, 0.0, z))))


def _shape(parameters: Values, inputs: Values) -> Any:
    log_x = np.log(inputs["tokens"])
    past_break = _softplus((log_x - np.log(parameters["d"])) / parameters["f"])
    return np.exp(-parameters["c0"] * log_x - parameters["c1"] * parameters["f"] * past_break)


def _value(parameters: Values, inputs: Values) -> Any:
    return parameters["a"] + parameters["b"] * _shape(parameters, inputs)


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    """Given the exponents and the break the loss is linear in a and b."""
    breaks = np.quantile(inputs["tokens"], (0.15, 0.3, 0.45, 0.6, 0.75, 0.9))
    grid = itertools.product((0.03, 0.1, 0.2, 0.4), (-0.15, 0.15, 0.4, 0.8), breaks, (0.1, 0.4, 1.2))
    named = dict(zip(("c0", "c1", "d", "f"), np.array(list(grid)).T[:, :, None], strict=True))
    shape_RN = _shape(named, inputs)
    a, b = terms.nonnegative(np.stack([np.ones_like(shape_RN), shape_RN], axis=-1), output).T
    return {"a": a, "b": b} | {name: value[:, 0] for name, value in named.items()}


BNSL = Law(
    name="bnsl",
    inputs=("tokens",),
    output="loss_nats",
    parameters={
        "a": Parameter(meaning="loss at infinitely many tokens, nats", typical=1.8),
        "b": Parameter(meaning="nats that one token would leave", typical=40.0),
        "c0": Parameter(meaning="exponent before the break", typical=0.15, positive=False),
        "c1": Parameter(meaning="what the break adds to the exponent", typical=0.4, positive=False),
        "d": Parameter(meaning="tokens at the break", typical=2e10),
        "f": Parameter(meaning="width of the break, in factors of e of tokens", typical=0.4),
    },
    form="loss = a + b·D^-c0·(1 + (D/d)^(1/f))^(-c1·f)",
    source="Caballero et al. (arXiv:2210.14891) eq. 1, one break; as ethancaballero/broken_neural_scaling_laws",
    value=_value,
    starts=_starts,
    design=designs.log_uniform(tokens=(1e8, 1e13)),
)
