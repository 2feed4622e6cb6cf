"""Learning rate and batch against compute (DeepSeek LLM, arXiv:2401.02954 eq. 1).

Compute is M·D with M the non-embedding FLOPs of a token, attention included: not 6·N·D.
"""

from typing import Any

from scalelab.laws.forms import designs
from scalelab.laws.forms.powers import power_law
from scalelab.laws.law import Record

DEEPSEEK_CHECKED = "from memory of the paper; public transcripts of it have the same"
LING_CHECKED = "read in a public reading note of the paper"


def _entry(c: float, p: float, source: str, checked: str, note: str, record: Record | None = None) -> dict[str, Any]:
    parameters = {"c": c, "p_cost_flops": p}
    return {"parameters": parameters, "source": source, "checked": checked, "note": note, "record": record}


SOURCE = "DeepSeek LLM (arXiv:2401.02954) eq. 1"
DENSE = (
    SOURCE, DEEPSEEK_CHECKED, "settings within 0.25 % of the best loss, 1e17 to 2e19 FLOPs",
    Record(domain={"cost_flops": (1e17, 2e19)}, source="the paper, sec. 3.1"),
)  # fmt: skip
MOE = ("Tian et al. (arXiv:2507.17702)", LING_CHECKED, "mixtures of experts; FLOPs of active parameters")

DEEPSEEK_LR = power_law(
    name="deepseek_lr",
    output="lr",
    coefficient=0.3118,
    exponents={"cost_flops": -0.125},
    source=SOURCE,
    design=designs.log_uniform(cost_flops=designs.COST_FLOPS),
    coefficients={"deepseek": _entry(0.3118, -0.1250, *DENSE), "ling_moe": _entry(1.1576, -0.1529, *MOE)},
)
DEEPSEEK_BATCH = power_law(
    name="deepseek_batch",
    output="batch_tokens",
    coefficient=0.292,
    exponents={"cost_flops": 0.3271},
    source=SOURCE,
    design=designs.log_uniform(cost_flops=designs.COST_FLOPS),
    coefficients={"deepseek": _entry(0.2920, 0.3271, *DENSE), "ling_moe": _entry(0.0694, 0.3644, *MOE)},
)
