"""How much compute a dense model would need to equal a mixture of experts, as a ratio (Tian et al. 2025,
arXiv:2507.17702).

The paper saturates the activation ratio at both ends, as Clark et al. do experts. The upper end came out at 5e16, which
is none, so only the lower one, A_start, stands here. The bases of the logarithms are not stated. With log10 of compute
and log2 of granularity the coefficients give the paper's own results: 7 times at an activation ratio of 3.1 %,
granularity 12 and 1e22 FLOPs, and an optimal granularity of about 12. No other choice among 2, e and 10 gives both.
"""

from typing import Any

import numpy as np

from scalelab.laws.forms import designs, powers
from scalelab.laws.law import Array, Law, Parameter, Values


def _value(parameters: Values, inputs: Values) -> Any:
    fine = np.log2(inputs["granularity"])
    power = (
        parameters["a"]
        + parameters["d"] * np.log10(inputs["cost_flops"])
        + parameters["beta"] * fine
        + parameters["gamma"] * fine**2
    )
    return np.exp(power * np.log(inputs["activation_ratio"] + parameters["A_start"]))


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    """Given A_start, the logarithm is linear in the rest."""
    A_start = np.geomspace(1e-4, 0.3, 60)
    log_ratio_RN = np.log(inputs["activation_ratio"] + A_start[:, None])
    fine_N, compute_N = np.log2(inputs["granularity"]), np.log10(inputs["cost_flops"])
    powers_NT = np.stack([np.ones_like(fine_N), compute_N, fine_N, fine_N**2], axis=-1)
    a, d, beta, gamma = powers.least_squares(log_ratio_RN[:, :, None] * powers_NT, np.log(output)).T
    return {"a": a, "d": d, "beta": beta, "gamma": gamma, "A_start": A_start}


PARAMETERS = {
    "a": Parameter(meaning="exponent of A at 1 FLOP and granularity 1", typical=1.23, positive=False),
    "d": Parameter(meaning="its change a decade of compute", typical=-0.0761, positive=False),
    "beta": Parameter(meaning="its change a doubling of granularity", typical=-0.117, positive=False),
    "gamma": Parameter(meaning="its change with the square of log2 granularity", typical=0.0167, positive=False),
    "A_start": Parameter(meaning="activation ratio below which sparser gains little", typical=0.0163),
}
EFFICIENCY_LEVERAGE = Law(
    name="efficiency_leverage",
    inputs=("activation_ratio", "cost_flops", "granularity"),
    output="efficiency_leverage",
    parameters=PARAMETERS,
    form="leverage = (A + A_start)^(a + d·log10 C + beta·log2 G + gamma·(log2 G)²)",
    source="Tian et al. (arXiv:2507.17702) eqs. 10 and 13",
    value=_value,
    starts=_starts,
    design=designs.log_uniform(activation_ratio=(0.008, 0.8), cost_flops=(1e18, 1e22), granularity=(1.0, 32.0)),
    coefficients={
        "ling": {
            "parameters": {"a": 1.23, "d": -0.0761, "beta": -0.117, "gamma": 0.0167, "A_start": 0.0163},
            "source": "Tian et al. (arXiv:2507.17702) Table 2",
            "checked": "read in a public transcript of the paper; the bases of the logarithms are inferred",
            "note": "fitted to leverages below 6; A_max = 5.28e16 is left out",
        }
    },
)
