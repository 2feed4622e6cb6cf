"""P parallel streams act like 1 + k·log P times the parameters (Chen et al. 2025, arXiv:2505.10475)."""

import itertools
from typing import Any

import numpy as np

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Array, Law, Parameter, Values


def _value(parameters: Values, inputs: Values) -> Any:
    gain = 1.0 + parameters["k"] * np.log(inputs["streams"])
    shortage = np.log(parameters["A"]) - np.log(inputs["params"]) - np.log(gain)
    return parameters["E"] + np.exp(parameters["alpha"] * shortage)


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    """Given alpha and k the loss is linear in E and A^alpha."""
    grid = np.array(list(itertools.product(np.geomspace(0.05, 1.0, 16), np.geomspace(0.05, 2.0, 16))))
    alpha, k = grid.T[:, :, None]
    effective_RN = inputs["params"] * (1.0 + k * np.log(inputs["streams"]))
    solved_RT = terms.nonnegative(np.stack([np.ones_like(effective_RN), effective_RN**-alpha], axis=-1), output)
    return {"E": solved_RT[:, 0], "A": solved_RT[:, 1] ** (1 / grid[:, 0]), "alpha": grid[:, 0], "k": grid[:, 1]}


def _entry(data: str, E: float, A: float, alpha: float, k: float) -> dict[str, object]:
    return {
        "parameters": {"E": E, "A": A, "alpha": alpha, "k": k},
        "source": f"Chen et al. (arXiv:2505.10475), {data}, 42B tokens",
        "checked": "reproduced from the losses in QwenLM/ParScale parametric_fit.py",
        "columns": {"params": "params_non_embedding"},
        "note": "natural logarithm of P; P of 1, 2, 4 and 8",
    }


PARSCALE = Law(
    name="parscale",
    inputs=("params", "streams"),
    output="loss_nats",
    parameters={
        "E": Parameter(meaning="loss at infinite size, nats", typical=1.29),
        "A": Parameter(meaning="parameters that leave 1 nat more", typical=2e8),
        "alpha": Parameter(meaning="exponent in parameters", typical=0.2),
        "k": Parameter(meaning="parameters, as a share, that e times the streams are worth", typical=0.33),
    },
    form="loss = E + (A/(N·(1 + k·log P)))^alpha",
    source="Chen et al. (arXiv:2505.10475)",
    value=_value,
    starts=_starts,
    design=designs.log_uniform(params=designs.PARAMS, streams=(1.0, 16.0)),
    coefficients={
        "stack": _entry("Stack-V2 (Python)", 0.69121, 1.1307e7, 0.18936, 0.39346),
        "pile": _entry("The Pile", 1.28859, 1.97517e8, 0.19628, 0.33444),
    },
)
