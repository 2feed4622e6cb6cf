"""Weight decay by what a step forgets, lr·weight_decay.

Wang & Aitchison hold the time scale fixed in epochs; trajectory invariance says that late in training a run depends on
lr and weight decay by their product alone, so it is the product that has an optimum.
"""

from typing import Any

import numpy as np

from scalelab.laws.forms import designs
from scalelab.laws.forms.powers import power_law
from scalelab.laws.law import Array, Law, Parameter, Values


def _value(parameters: Values, inputs: Values) -> Any:
    return inputs["batch_tokens"] / (inputs["lr"] * inputs["unique_tokens"] * parameters["tau_epochs"])


def _starts(inputs: Values, output: Array) -> dict[str, Array]:
    tau = inputs["batch_tokens"] / (inputs["lr"] * inputs["unique_tokens"] * output)
    return {"tau_epochs": np.exp([np.log(tau).mean()])}


WANG_AITCHISON_DECAY = Law(
    name="wang_aitchison_decay",
    inputs=("batch_tokens", "lr", "unique_tokens"),
    output="weight_decay",
    parameters={"tau_epochs": Parameter(meaning="AdamW's time scale in epochs", typical=1.0)},
    form="weight_decay = batch/(lr·U·tau_epochs)",
    source="Wang & Aitchison (arXiv:2405.13698): tau_epochs does not move with model and data",
    value=_value,
    starts=_starts,
    design=designs.log_uniform(batch_tokens=designs.BATCH_TOKENS, lr=designs.LR, unique_tokens=designs.TOKENS),
)
TRAJECTORY_INVARIANCE = power_law(
    name="trajectory_invariance",
    output="lr_decay",
    coefficient=10.0,
    exponents={"batch_tokens": 1.0, "tokens": -1.0},
    source="Li et al. (arXiv:2509.25049): runs depend on lr·weight_decay; exponents 1 and -1 are a constant tau",
    design=designs.log_uniform(batch_tokens=designs.BATCH_TOKENS, tokens=designs.TOKENS),
)
