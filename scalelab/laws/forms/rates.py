"""Learning rates against size and horizon, from the sources that tuned the rate alone or with the batch given.

The sign of the exponent in tokens differs between them because the batch does: Bjorck et al. hold it fixed.
"""

from scalelab.laws.forms import designs
from scalelab.laws.forms.powers import NOT_GIVEN, power_law
from scalelab.laws.law import Record

BJORCK_LR = power_law(
    name="bjorck_lr",
    output="lr",
    coefficient=160.0,
    exponents={"params": -0.23, "tokens": -0.32},
    source="Bjorck et al. (arXiv:2409.19913) sec. 4, batch fixed at 0.5M tokens",
    design=designs.log_uniform(params=designs.PARAMS, tokens=designs.TOKENS),
    coefficients={
        "bjorck": {
            "parameters": {"c": NOT_GIVEN, "p_params": -0.23, "p_tokens": -0.32},
            "source": "Bjorck et al. (arXiv:2409.19913) sec. 4, 760M to 2.7B parameters",
            "checked": "exponents from memory of the paper; public code and notes have the same",
            "note": "exponents only: the coefficient is quoted in ways that disagree, in units not stated",
        }
    },
)
PORIAN_LR = power_law(
    name="porian_lr",
    output="lr",
    coefficient=3.7,
    exponents={"params": -0.36},
    source="Porian et al. (arXiv:2406.19146), about 20 tokens a parameter",
    design=designs.log_uniform(params=designs.PARAMS),
    coefficients={
        "porian": {
            "parameters": {"c": 3.7, "p_params": -0.36},
            "source": "Porian et al. (arXiv:2406.19146)",
            "checked": "as arXiv:2503.04715 quotes it, read in a public note and in public code",
            "record": Record(domain={"params": (5e6, 9.01e8)}, source="a public summary of the paper"),
        }
    },
)
SCION_LR = power_law(
    name="scion_lr",
    output="lr",
    coefficient=0.1,
    exponents={"batch_tokens": 0.62, "tokens": -0.56},
    source="Filatov et al. (arXiv:2510.03871), the Scion optimizer",
    design=designs.log_uniform(batch_tokens=designs.BATCH_TOKENS, tokens=designs.TOKENS),
    coefficients={
        "scion": {
            "parameters": {"c": NOT_GIVEN, "p_batch_tokens": 0.62, "p_tokens": -0.56},
            "source": "Filatov et al. (arXiv:2510.03871) sec. 6",
            "checked": "exponents read in a public summary that quotes the paper",
            "note": "exponents only",
        }
    },
)
SCION_BATCH = power_law(
    name="scion_batch",
    output="batch_tokens",
    coefficient=5.0,
    exponents={"tokens": 0.45},
    source="Filatov et al. (arXiv:2510.03871), the Scion optimizer",
    design=designs.log_uniform(tokens=designs.TOKENS),
    coefficients={
        "scion": {
            "parameters": {"c": NOT_GIVEN, "p_tokens": 0.45},
            "source": "Filatov et al. (arXiv:2510.03871) sec. 6",
            "checked": "exponents read in a public summary that quotes the paper",
            "note": "exponents only",
        }
    },
)
