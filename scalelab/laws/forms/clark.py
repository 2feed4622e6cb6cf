"""Routed language models: loss bilinear in log parameters and log experts (Clark et al. 2022, arXiv:2202.01169).

Experts count with saturation at both ends, 1/Ê = 1/(experts - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max, so that Ê is
E_start for one expert and at most E_max. Parameters are those of the dense model of the same shape. The law without
saturation, `clark_bilinear`, is what a few numbers of experts determine.
"""

import itertools
from typing import Any

import numpy as np

from scalelab.laws.forms import designs, powers
from scalelab.laws.law import Array, Law, Parameter, Values

LOG10 = np.log(10.0)


def _log10_experts(E_start: Any, E_max: Any, experts: Any) -> Any:
    one = 1.0 / (1.0 / E_start - 1.0 / E_max)
    return -np.log(1.0 / (experts - 1.0 + one) + 1.0 / E_max) / LOG10


def _value(parameters: Values, inputs: Values) -> Any:
    size = np.log10(inputs["params"])
    experts = _log10_experts(parameters["E_start"], parameters["E_max"], inputs["experts"])
    a, b, c, d = (parameters[name] for name in "abcd")
    return np.exp(LOG10 * (a * size + b * experts + c * size * experts + d))


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    """Given E_start and E_max, log loss is linear in the rest."""
    grid = [(s, m) for s, m in itertools.product((1.01, 1.3, 1.8, 2.5, 4.0, 7.0), (30.0, 80.0, 200.0, 500.0, 2e3, 1e5))]
    E_start, E_max = np.array(grid).T[:, :, None]
    experts_RN = _log10_experts(E_start, E_max, inputs["experts"])
    size_RN = np.broadcast_to(np.log10(inputs["params"]), experts_RN.shape)
    features_RNT = np.stack([size_RN, experts_RN, size_RN * experts_RN, np.ones_like(size_RN)], axis=-1)
    a, b, c, d = powers.least_squares(features_RNT, np.log10(output)).T
    return {"a": a, "b": b, "c": c, "d": d, "E_start": E_start[:, 0], "E_max": E_max[:, 0]}


def _entry(router: str, *values: float) -> dict[str, object]:
    return {
        "parameters": dict(zip(CLARK_PARAMETERS, values, strict=True)),
        "source": f"Clark et al. (arXiv:2202.01169) Table 3, {router}",
        "checked": "from memory of the paper; a public reading note has the same; the released runs give about these",
        "note": "three digits, which leave 1 to 2 % of the loss open; validation loss of the released runs",
    }


CLARK_PARAMETERS = {
    "a": Parameter(meaning="exponent in parameters at Ê = 1", typical=-0.083, positive=False),
    "b": Parameter(meaning="exponent in Ê at one parameter", typical=-0.126, positive=False),
    "c": Parameter(meaning="how the exponent in Ê falls off a decade of parameters", typical=0.012, positive=False),
    "d": Parameter(meaning="log10 loss at one parameter and Ê = 1", typical=1.111, positive=False),
    "E_start": Parameter(meaning="Ê of one expert", typical=1.88),
    "E_max": Parameter(meaning="Ê of unboundedly many experts", typical=470.0),
}
CLARK = Law(
    name="clark",
    inputs=("params", "experts"),
    output="loss_nats",
    parameters=CLARK_PARAMETERS,
    form="log10 loss = a·log10 N + b·log10 Ê + c·log10 N·log10 Ê + d",
    source="Clark et al. (arXiv:2202.01169)",
    value=_value,
    starts=_starts,
    design=designs.log_uniform(params=designs.PARAMS, experts=(1.0, 512.0)),
    coefficients={
        "s_base": _entry("S-Base", -0.082, -0.108, 0.009, 1.104, 1.847, 314.478),
        "rl_r": _entry("RL-R", -0.083, -0.126, 0.012, 1.111, 1.880, 469.982),
        "hash": _entry("Hash", -0.087, -0.136, 0.012, 1.157, 4.175, 477.741),
    },
)


def _bilinear(parameters: Values, inputs: Values) -> Any:
    size, experts = np.log10(inputs["params"]), np.log10(inputs["experts"])
    a, b, c, d = (parameters[name] for name in "abcd")
    return np.exp(LOG10 * (a * size + b * experts + c * size * experts + d))


def _bilinear_starts(inputs: Values, output: Array) -> dict[str, Array]:
    size_N, experts_N = np.log10(inputs["params"]), np.log10(inputs["experts"])
    features_NT = np.stack([size_N, experts_N, size_N * experts_N, np.ones_like(size_N)], axis=-1)
    return dict(zip("abcd", powers.least_squares(features_NT[None], np.log10(output)).T, strict=True))


CLARK_BILINEAR = Law(
    name="clark_bilinear",
    inputs=("params", "experts"),
    output="loss_nats",
    parameters={
        "a": Parameter(meaning="exponent in parameters of one expert", typical=-0.083, positive=False),
        "b": Parameter(meaning="exponent in experts at one parameter", typical=-0.126, positive=False),
        "c": Parameter(
            meaning="how the exponent in experts falls off a decade of parameters", typical=0.012, positive=False
        ),
        "d": Parameter(meaning="log10 loss at one parameter and one expert", typical=1.111, positive=False),
    },
    form="log10 loss = a·log10 N + b·log10 E + c·log10 N·log10 E + d",
    source="Clark et al. (arXiv:2202.01169), without saturation",
    value=_bilinear,
    starts=_bilinear_starts,
    design=designs.log_uniform(params=designs.PARAMS, experts=(1.0, 512.0)),
)
