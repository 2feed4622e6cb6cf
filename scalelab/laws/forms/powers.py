"""Single powers, c · Π x^p: what most published laws of hyperparameters are. In logarithms they are linear."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from scalelab.laws.forms import terms
from scalelab.laws.forms.designs import Design
from scalelab.laws.law import Array, Law, Parameter, Values

# A coefficient that a source does not give. Where it claims exponents only, nothing can be predicted from them.
NOT_GIVEN = float("nan")


def power_law(
    *,
    name: str,
    output: str,
    coefficient: float,
    exponents: Mapping[str, float],
    source: str,
    design: Design,
    coefficients: Mapping[str, Mapping[str, Any]] | None = None,
) -> Law:
    """`coefficient` and `exponents` (input → exponent) are typical values; the exponent of x is the parameter `p_x`."""
    term = terms.Term("c", grows={x: f"p_{x}" for x in exponents})
    parameters = {"c": Parameter(meaning=f"{output} where every input is 1", typical=coefficient)}
    for x, typical in exponents.items():
        parameters[f"p_{x}"] = Parameter(meaning=f"exponent in {x}", typical=typical, positive=False)
    return Law(
        name=name,
        inputs=tuple(exponents),
        output=output,
        parameters=parameters,
        form=f"{output} = c · " + " · ".join(f"{x}^p_{x}" for x in exponents),
        source=source,
        value=terms.value([term]),
        starts=starts(tuple(exponents)),
        derivatives=terms.derivatives([term], list(parameters)),
        design=design,
        coefficients=coefficients or {},
    )


def starts(inputs: tuple[str, ...]) -> Callable[[Values, Array], dict[str, Array]]:
    """One start, least squares in logarithms, which is where a fit ends but for its weights."""

    def found(values: Values, output: Array) -> dict[str, Array]:
        columns = [np.ones_like(output), *(np.broadcast_to(np.log(values[x]), output.shape) for x in inputs)]
        solved_RT = least_squares(np.stack(columns, axis=-1)[None], np.log(output))
        return {"c": np.exp(solved_RT[:, 0])} | {f"p_{x}": solved_RT[:, k] for k, x in enumerate(inputs, start=1)}

    return found


def least_squares(features_RNT: Array, target_N: Array) -> Array:
    """Coefficients (R, T) of the least squares for each of R sets of features."""
    return np.asarray((np.linalg.pinv(features_RNT) @ target_N[:, None])[..., 0])
