"""Loss as powers without an irreducible part (Kaplan et al. 2020, arXiv:2001.08361).

N counts parameters without embeddings, C the training FLOPs of compute-efficient runs. The joint law was fitted apart
from the single ones, so their coefficients differ and must not be mixed.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from scalelab.laws.forms import designs, powers, terms
from scalelab.laws.law import Array, Law, Parameter, Values

FLOPS_PER_PF_DAY = 1e15 * 86_400
EXPONENTS = (0.04, 0.055, 0.076, 0.1, 0.14, 0.2, 0.3)


def _joint(parameters: Values, inputs: Values) -> Any:
    alpha_N, alpha_D = parameters["alpha_N"], parameters["alpha_D"]
    from_size = np.exp(alpha_N / alpha_D * (np.log(parameters["N_c"]) - np.log(inputs["params"])))
    from_data = parameters["D_c"] / inputs["tokens"]
    return np.exp(alpha_D * np.log(from_size + from_data))


def _joint_starts(inputs: Values, output: Array) -> dict[str, Array]:
    """Given both exponents, loss^(1/alpha_D) is linear in N_c^(alpha_N/alpha_D) and D_c."""
    found: dict[str, list[float]] = {"N_c": [], "D_c": [], "alpha_N": [], "alpha_D": []}
    for alpha_N, alpha_D in itertools.product(EXPONENTS, EXPONENTS):
        ratio = alpha_N / alpha_D
        basis_NT = np.stack([inputs["params"] ** -ratio, 1.0 / inputs["tokens"]], axis=-1)
        size, data = terms.nonnegative(basis_NT[None], output ** (1 / alpha_D))[0]
        for name, value in zip(found, (size ** (1 / ratio), data, alpha_N, alpha_D), strict=True):
            found[name].append(float(value))
    return {name: np.array(values) for name, values in found.items()}


KAPLAN = Law(
    name="kaplan",
    inputs=("params", "tokens"),
    output="loss_nats",
    parameters={
        "N_c": Parameter(meaning="parameters at which unlimited data would leave 1 nat", typical=6.4e13),
        "D_c": Parameter(meaning="tokens at which unlimited parameters would leave 1 nat", typical=1.8e13),
        "alpha_N": Parameter(meaning="exponent in parameters", typical=0.076),
        "alpha_D": Parameter(meaning="exponent in tokens", typical=0.103),
    },
    form="loss = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
    source="Kaplan et al. (arXiv:2001.08361) eq. 1.5",
    value=_joint,
    starts=_joint_starts,
    design=designs.log_uniform(params=designs.PARAMS, tokens=designs.TOKENS),
    coefficients={
        "kaplan": {
            "parameters": {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
            "source": "Kaplan et al. (arXiv:2001.08361) Table 2",
            "checked": "from memory of the paper; three public reading notes quote the same four numbers",
            "columns": {"params": "params_non_embedding"},
            "note": "for WebText2 and its tokenizer; early stopping, so D is the size of the data",
        }
    },
)


def _single(name: str, symbol: str, x: str, scale: float, alpha: float, entries: Mapping[str, Any], design: Any) -> Law:
    """loss = (x_c/x)^alpha."""
    constant, exponent = f"{symbol}_c", f"alpha_{symbol}"

    def value(parameters: Values, inputs: Values) -> Any:
        return np.exp(parameters[exponent] * (np.log(parameters[constant]) - np.log(inputs[x])))

    def starts(inputs: Values, output: Array) -> dict[str, Array]:
        solved = powers.starts((x,))(inputs, output)
        slope = np.where(np.abs(solved[f"p_{x}"]) < 1e-6, -1e-6, solved[f"p_{x}"])
        return {constant: np.exp(np.clip(-np.log(solved["c"]) / slope, -300, 300)), exponent: -slope}

    def derivatives(parameters: Values, inputs: Values) -> tuple[Array, Array]:
        distance = np.log(parameters[constant]) - np.log(inputs[x])
        alpha = parameters[exponent]
        return alpha * distance, np.stack(np.broadcast_arrays(alpha, distance), axis=-1)

    return Law(
        name=name,
        inputs=(x,),
        output="loss_nats",
        parameters={
            constant: Parameter(meaning=f"{x} at which the loss would be 1 nat", typical=scale),
            exponent: Parameter(meaning=f"exponent in {x}", typical=alpha, positive=False),
        },
        form=f"loss = ({constant}/{symbol})^{exponent}",
        source="Kaplan et al. (arXiv:2001.08361) eqs. 1.1 to 1.3",
        value=value,
        starts=starts,
        derivatives=derivatives,
        design=design,
        coefficients=entries,
    )


KAPLAN_SIZE = _single(
    "kaplan_size",
    "N",
    "params",
    8.8e13,
    0.076,
    {
        "kaplan": {
            "parameters": {"N_c": 8.8e13, "alpha_N": 0.076},
            "source": "Kaplan et al. (arXiv:2001.08361) eq. 1.1",
            "checked": "from memory of the paper; public reading notes quote the same numbers",
            "columns": {"params": "params_non_embedding"},
            "note": "trained to convergence on ample data",
        }
    },
    designs.log_uniform(params=designs.PARAMS),
)
KAPLAN_DATA = _single(
    "kaplan_data",
    "D",
    "tokens",
    5.4e13,
    0.095,
    {
        "kaplan": {
            "parameters": {"D_c": 5.4e13, "alpha_D": 0.095},
            "source": "Kaplan et al. (arXiv:2001.08361) eq. 1.2",
            "checked": "from memory of the paper; public reading notes quote the same numbers",
            "note": "large models with early stopping",
        }
    },
    designs.log_uniform(tokens=designs.TOKENS),
)
KAPLAN_COMPUTE = _single(
    "kaplan_compute",
    "C",
    "cost_flops",
    3.1e8 * FLOPS_PER_PF_DAY,
    0.05,
    {
        "kaplan": {
            "parameters": {"C_c": 3.1e8 * FLOPS_PER_PF_DAY, "alpha_C": 0.050},
            "source": "Kaplan et al. (arXiv:2001.08361) eq. 1.3, C_c^min = 3.1e8 PF-days",
            "checked": "from memory of the paper; public reading notes quote the same numbers",
            "note": "compute as if trained far below the critical batch, non-embedding FLOPs",
        },
        "kaplan_fixed_batch": {
            "parameters": {"C_c": 1.6e7 * FLOPS_PER_PF_DAY, "alpha_C": 0.057},
            "source": "Kaplan et al. (arXiv:2001.08361) Appendix A, C_c = 1.6e7 PF-days",
            "checked": "from memory of the paper; two public reading notes quote the same numbers",
            "note": "compute as spent, at one batch for all models, non-embedding FLOPs",
        },
    },
    designs.log_uniform(cost_flops=designs.COST_FLOPS),
)
