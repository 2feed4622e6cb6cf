"""Reinforcement learning after pre-training: errors fall as a power of compute, faster in larger models up to a limit
(Tan et al. 2025, arXiv:2509.25300).

The error is 1 - pass@1, not a loss in nats. The paper takes the intercept E(N) from a table, one number a model; here
it saturates as k(N) does, a variant in the authors' code, so that four parameters speak of every size.
"""

import itertools
from typing import Any

import numpy as np

from scalelab.laws.forms import designs, powers
from scalelab.laws.law import Array, Law, Parameter, Values


def _value(parameters: Values, inputs: Values) -> Any:
    size = inputs["params"]
    speed = parameters["K"] / (1.0 + parameters["N0"] / size)
    intercept = parameters["E_max"] / (1.0 + parameters["N1"] / size)
    return np.exp(intercept - speed * np.log(inputs["cost_flops"]))


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    """Given N0 and N1 the logarithm is linear in K and E_max."""
    scales = np.geomspace(inputs["params"].min() / 10, 10 * inputs["params"].max(), 20)
    grid_RP = np.array(list(itertools.product(scales, scales)))
    speed_RN, intercept_RN = 1.0 / (1.0 + grid_RP.T[:, :, None] / inputs["params"])
    features_RNT = np.stack([-speed_RN * np.log(inputs["cost_flops"]), intercept_RN], axis=-1)
    K, E_max = np.maximum(powers.least_squares(features_RNT, np.log(output)).T, 1e-4)
    return {"K": K, "N0": grid_RP[:, 0], "E_max": E_max, "N1": grid_RP[:, 1]}


RL_SIZE = Law(
    name="rl_size",
    inputs=("params", "cost_flops"),
    output="error_rate",
    parameters={
        "K": Parameter(meaning="exponent in compute of an unboundedly large model", typical=0.06),
        "N0": Parameter(meaning="parameters at which the exponent is half of that", typical=5e9),
        "E_max": Parameter(meaning="log error at 1 FLOP of an unboundedly large model", typical=2.3),
        "N1": Parameter(meaning="parameters at which the intercept is half of that", typical=5.5e9),
    },
    form="log error = -K/(1 + N0/N)·log C + E_max/(1 + N1/N)",
    source="Tan et al. (arXiv:2509.25300); intercept as in tanzelin430/Mathematical-Reasoning-RL-Scaling-Law",
    value=_value,
    starts=_starts,
    design=designs.log_uniform(params=(5e8, 7.2e10), cost_flops=(1e18, 1e22)),
)
