"""Weight decay and batch by AdamW's time scale (Bergsma et al. 2025, Power Lines, arXiv:2505.13738).

tau = batch/(lr·weight_decay·tokens), in runs. Its optimum falls with tokens a parameter; batches follow tokens alone.
The paper counts batches in sequences of 2,048 tokens: coefficients here are 2,048 times its own.
"""

from typing import Any

import numpy as np

from scalelab.laws.forms import designs, powers
from scalelab.laws.forms.powers import power_law
from scalelab.laws.law import Array, Law, Parameter, Values

SEQUENCE_TOKENS = 2048
COLUMNS = {"params": "params_total"}  # its models are named by it: 111M with embeddings
TAU = {"c": 1.084, "m": -0.527}
TAU_CHECKED = "from memory of the paper; a public reading note has the same"
BATCH_CHECKED = "from memory of the paper; the exponent as public code has it, the size as its sweep at 610M (252 best)"

POWER_LINES_TAU = power_law(
    name="power_lines_tau",
    output="tau",
    coefficient=1.084,
    exponents={"tokens_per_param": -0.527},
    source="Bergsma et al. (arXiv:2505.13738) Fig. 1",
    design=designs.log_uniform(tokens_per_param=(5.0, 1000.0)),
    coefficients={
        "power_lines": {
            "parameters": {"c": 1.084, "p_tokens_per_param": -0.527},
            "source": "Bergsma et al. (arXiv:2505.13738) Fig. 1",
            "checked": TAU_CHECKED,
            "columns": COLUMNS,
        }
    },
)
POWER_LINES_BATCH = power_law(
    name="power_lines_batch",
    output="batch_tokens",
    coefficient=0.0306 * SEQUENCE_TOKENS,
    exponents={"tokens": 0.383},
    source="Bergsma et al. (arXiv:2505.13738) Fig. 1",
    design=designs.log_uniform(tokens=designs.TOKENS),
    coefficients={
        "power_lines": {
            "parameters": {"c": 0.0306 * SEQUENCE_TOKENS, "p_tokens": 0.383},
            "source": "Bergsma et al. (arXiv:2505.13738) Fig. 1",
            "checked": BATCH_CHECKED,
        }
    },
)
POWER_LINES_CRITICAL_BATCH = power_law(
    name="power_lines_critical_batch",
    output="critical_batch_tokens",
    coefficient=0.0471 * SEQUENCE_TOKENS,
    exponents={"tokens": 0.462},
    source="Bergsma et al. (arXiv:2505.13738) Fig. 1",
    design=designs.log_uniform(tokens=designs.TOKENS),
    coefficients={
        "power_lines": {
            "parameters": {"c": 0.0471 * SEQUENCE_TOKENS, "p_tokens": 0.462},
            "source": "Bergsma et al. (arXiv:2505.13738) Fig. 1",
            "checked": "from memory of the paper; a public note has the exponent",
            "note": "tokens are D_min, those that a small batch would need",
        }
    },
)


def _decay(parameters: Values, inputs: Values) -> Any:
    tau = parameters["c"] * np.exp(parameters["m"] * np.log(inputs["tokens_per_param"]))
    return inputs["batch_tokens"] / (inputs["lr"] * inputs["tokens"] * tau)


def _decay_starts(inputs: Values, output: Array) -> dict[str, Array]:
    tau = inputs["batch_tokens"] / (inputs["lr"] * inputs["tokens"] * output)
    solved = powers.starts(("tokens_per_param",))(inputs, tau)
    return {"c": solved["c"], "m": solved["p_tokens_per_param"]}


def _decay_design(rng: np.random.Generator, n: int) -> dict[str, Array]:
    ranges = {"params": designs.PARAMS, "tokens_per_param": (5.0, 1000.0), "lr": designs.LR}
    drawn = designs.log_uniform(batch_tokens=designs.BATCH_TOKENS, **ranges)(rng, n)
    return {"tokens": drawn.pop("params") * drawn["tokens_per_param"], **drawn}


POWER_LINES_DECAY = Law(
    name="power_lines_decay",
    inputs=("batch_tokens", "lr", "tokens", "tokens_per_param"),
    output="weight_decay",
    parameters={
        "c": Parameter(meaning="tau at one token a parameter", typical=1.084),
        "m": Parameter(meaning="exponent of tau in tokens a parameter", typical=-0.527, positive=False),
    },
    form="weight_decay = batch/(lr·D·c·(D/N)^m)",
    source="Bergsma et al. (arXiv:2505.13738)",
    value=_decay,
    starts=_decay_starts,
    design=_decay_design,
    coefficients={
        "power_lines": {
            "parameters": TAU,
            "source": "Bergsma et al. (arXiv:2505.13738) Fig. 1",
            "checked": TAU_CHECKED,
            "columns": COLUMNS,
            "note": "for batches up to the critical one",
        }
    },
)
