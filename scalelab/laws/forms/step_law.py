"""Learning rate and batch against parameters and tokens (Li et al. 2025, Step Law, arXiv:2503.04715).

The exponents are of optima over both at once. At a fixed batch the optimal lr hardly moves with tokens: its exponent in
them is the batch's growth in disguise, which `conditional_lr` keeps apart.
"""

from scalelab.laws.forms import designs
from scalelab.laws.forms.powers import power_law
from scalelab.laws.law import Record

CHECKED = "the 1,000 bootstrap fits in step-law/steplaw have these means; the released runs alone do not give them"
COLUMNS = {"params": "params_non_embedding"}
TOKENS = (4e9, 1e11)
MEASURED = "its released runs, 16 scales at their best batch; held out: the abstract, 1B parameters on 100B tokens"

STEP_LAW_LR = power_law(
    name="step_law_lr",
    output="lr",
    coefficient=1.79,
    exponents={"params": -0.713, "tokens": 0.307},
    source="Li et al. (arXiv:2503.04715)",
    design=designs.log_uniform(params=designs.PARAMS, tokens=designs.TOKENS),
    coefficients={
        "step_law": {
            "parameters": {"c": 1.79, "p_params": -0.713, "p_tokens": 0.307},
            "source": "Li et al. (arXiv:2503.04715)",
            "checked": CHECKED,
            "columns": COLUMNS,
            "note": "AdamW, 2,048-token sequences, cosine to a fixed 1e-5; batch at its optimum too",
            "record": Record(
                domain={"params": (2.147e8, 1.074e9), "tokens": TOKENS},
                octaves=0.21,
                valley_percent=(0.42, 0.58),
                held_out_percent=0.094,
                source=MEASURED,
            ),
        }
    },
)
STEP_LAW_BATCH = power_law(
    name="step_law_batch",
    output="batch_tokens",
    coefficient=0.58,
    exponents={"tokens": 0.571},
    source="Li et al. (arXiv:2503.04715)",
    design=designs.log_uniform(tokens=designs.TOKENS),
    coefficients={
        "step_law": {
            "parameters": {"c": 0.58, "p_tokens": 0.571},
            "source": "Li et al. (arXiv:2503.04715)",
            "checked": CHECKED,
            "record": Record(domain={"tokens": TOKENS}, source=MEASURED),
        }
    },
)
CONDITIONAL_LR = power_law(
    name="conditional_lr",
    output="lr",
    coefficient=1.64,
    exponents={"params": -0.594, "tokens": 0.03, "batch_tokens": 0.31},
    source="the runs of Li et al. (arXiv:2503.04715), each (N, D, batch) with its own optimum",
    design=designs.log_uniform(params=designs.PARAMS, tokens=designs.TOKENS, batch_tokens=designs.BATCH_TOKENS),
)
