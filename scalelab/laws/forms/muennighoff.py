"""Repeated data and excess parameters lose their worth exponentially (Muennighoff et al. 2023, arXiv:2305.16264).

Tokens beyond the first epoch, and parameters beyond those that suit the unique tokens, count as

    seen = U·(1 + R_D·(1 - exp(-repeats/R_D))),    sized = U_N·(1 + R_N·(1 - exp(-excess/R_N)))

in Chinchilla's law, where U_N = min(N, compute-optimal N for U tokens) follows from the other coefficients. R_D and R_N
are hardly identified by the published runs: R_D from 8 to infinity fits them within 1 % of the best objective.
"""

import itertools
from typing import Any

import numpy as np

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Array, Law, Parameter, Values

C4 = {"E": np.exp(0.6254804), "A": np.exp(6.255414), "B": np.exp(7.3049974), "alpha": 0.3526596, "beta": 0.3526596}
REPEATS = {"R_D": 15.387756, "R_N": 5.309743}
ENTRY = {
    "source": "Muennighoff et al. (arXiv:2305.16264); huggingface/datablations utils/parametric_fit.ipynb",
    "checked": "read in huggingface/datablations; objective .01582594 and R² .7722 reproduced from the released runs",
}
TOKENS_PER_PARAM = 20.0  # of compute-optimal runs, while the starts have no coefficients to derive it from


def _discounted(base: Any, excess: Any, scale: Any) -> Any:
    # expm1 keeps the limit of an infinite scale, where nothing is discounted: 1 - exp() would round to 0 there.
    return base * (1.0 - scale * np.expm1(-excess / scale))


def _value(parameters: Values, inputs: Values) -> Any:
    """alpha and beta apart decide how fast the compute-optimal size grows with the unique tokens."""
    A, B, alpha, beta = (parameters[name] for name in ("A", "B", "alpha", "beta"))
    params, unique = inputs["params"], inputs["unique_tokens"]
    log_G = np.log(alpha * A / (beta * B)) / (alpha + beta)  # compute-optimal: N = G·(C/6)^(beta/(alpha+beta))
    optimal = np.exp(log_G + beta / alpha * (log_G + np.log(unique)))
    # min() is not defined for the complex numbers of derivatives by complex steps; which side is smaller is real.
    base = np.where(params < np.real(optimal), params, optimal)
    sized = _discounted(base, params / base - 1.0, parameters["R_N"])
    seen = _discounted(unique, np.maximum(inputs["tokens"] / unique - 1.0, 0.0), parameters["R_D"])
    return parameters["E"] + A * np.exp(-alpha * np.log(sized)) + B * np.exp(-beta * np.log(seen))


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    exponents = (0.22, 0.3, 0.37, 0.5)
    grid = itertools.product(exponents, exponents, (2.0, 6.0, 15.0, 50.0), (0.5, 2.0, 5.0, 15.0))
    alpha, beta, R_D, R_N = np.array(list(grid)).T[:, :, None]
    base = np.minimum(inputs["params"], inputs["unique_tokens"] / TOKENS_PER_PARAM)
    sized = _discounted(base, inputs["params"] / base - 1.0, R_N)
    repeats = np.maximum(inputs["tokens"] / inputs["unique_tokens"] - 1.0, 0.0)
    seen = _discounted(inputs["unique_tokens"], repeats, R_D)
    basis_RNT = np.stack([np.ones_like(sized), sized**-alpha, seen**-beta], axis=-1)
    E, A, B = terms.nonnegative(basis_RNT, output).T
    named = {"alpha": alpha, "beta": beta, "R_D": R_D, "R_N": R_N}
    return {"E": E, "A": A, "B": B} | {name: value[:, 0] for name, value in named.items()}


def _repeats_value(parameters: Values, inputs: Values) -> Any:
    return _value({**C4, **parameters}, inputs)


def _repeats_starts(inputs: Values, output: Array) -> dict[str, Array]:
    grid = np.array(list(itertools.product(np.geomspace(1, 200, 12), np.geomspace(0.3, 60, 12)))).T
    return {"R_D": grid[0], "R_N": grid[1]}


DECAYS = {
    "R_D": Parameter(meaning="repeats over which a token's worth falls to 1/e", typical=15.4),
    "R_N": Parameter(meaning="excess, in fitting sizes, over which a parameter's worth falls to 1/e", typical=5.3),
}
MUENNIGHOFF = Law(
    name="muennighoff",
    inputs=("params", "tokens", "unique_tokens"),
    output="loss_nats",
    parameters={
        "E": Parameter(meaning="irreducible loss, nats", typical=1.87),
        "A": Parameter(meaning="nats that one parameter would leave", typical=521.0),
        "B": Parameter(meaning="nats that one token would leave", typical=1488.0),
        "alpha": Parameter(meaning="exponent in parameters", typical=0.353),
        "beta": Parameter(meaning="exponent in tokens", typical=0.353),
        **DECAYS,
    },
    form="loss = E + A/sized^alpha + B/seen^beta",
    source="Muennighoff et al. (arXiv:2305.16264)",
    value=_value,
    starts=_starts,
    design=designs.repeated,
    coefficients={
        "c4": {
            **ENTRY,
            "parameters": {**C4, **REPEATS},
            "note": "alpha = beta was imposed; R_D and R_N are hardly identified",
        }
    },
)
MUENNIGHOFF_REPEATS = Law(
    name="muennighoff_repeats",
    inputs=("params", "tokens", "unique_tokens"),
    output="loss_nats",
    parameters=DECAYS,
    form="loss = E + A/sized^alpha + B/seen^beta with E, A, B, alpha = beta of the published C4 fit",
    source="Muennighoff et al. (arXiv:2305.16264)",
    value=_repeats_value,
    starts=_repeats_starts,
    design=designs.repeated,
    coefficients={"c4": {**ENTRY, "parameters": REPEATS, "note": "a local minimum: R_D = 100 fits slightly better"}},
)
