"""The settings of the papers whose laws are published, as keys of conf/train.yaml: what a law holds under.

A law gives a learning rate or a batch; what its runs had otherwise is part of what it says. Where a paper trained with
something that scalelab has not, the setting says so, and is for the user to choose.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

ADAMW = {"optimizer.beta1": 0.9, "optimizer.beta2": 0.95, "optimizer.eps": 1e-8, "optimizer.clip_norm": 1.0}
MEMORY = "from memory of the paper"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """How a paper trained.

    `model` is what its laws are about (a name of conf/model), `values` are keys of conf/train.yaml. `warmup_steps` and
    `final_lr` are stated in steps and as a learning rate, where keys have tokens and a ratio. `lacking` maps keys to
    what the paper had and scalelab has not; `differs` says what else was otherwise, `checked` how this is known.
    """

    source: str
    checked: str
    model: str = "transformer"
    values: Mapping[str, float | str] = field(default_factory=dict)
    warmup_steps: int | None = None
    final_lr: float | None = None
    lacking: Mapping[str, str] = field(default_factory=dict)
    differs: tuple[str, ...] = ()


MULTI_STEP = {
    "schedule": "its rate is multiplied by 0.316 at 80 % and again at 90 % of the tokens, which scalelab has not: say"
    " schedule=cosine or wsd, and final_lr_ratio"
}

# By the name of the entry in `laws.PUBLISHED`, after the slash.
PAPERS: dict[str, Paper] = {
    "step_law": Paper(
        source="Li et al. (arXiv:2503.04715)",
        checked=f"{MEMORY}; the optimizer and the final 1e-5 as a public summary has them",
        values={**ADAMW, "context": 2048, "optimizer.weight_decay": 0.1, "schedule": "cosine"},
        warmup_steps=2000,
        final_lr=1e-5,
        differs=("ALiBi positions",),
    ),
    "deepseek": Paper(
        source="DeepSeek LLM (arXiv:2401.02954)",
        checked=f"{MEMORY}; betas and weight decay as public notes have them",
        values={**ADAMW, "context": 4096, "optimizer.weight_decay": 0.1},
        warmup_steps=2000,
        lacking=MULTI_STEP,
        differs=("every matrix starts with a standard deviation of 0.006",),
    ),
    "ling_moe": Paper(
        source="Tian et al. (arXiv:2507.17702)",
        checked="the law alone, in a public reading note",
        model="moe",
        lacking={"schedule": "its schedule is not recorded here: say schedule, warmup_fraction and final_lr_ratio"},
    ),
    "power_lines": Paper(
        source="Bergsma et al. (arXiv:2505.13738)",
        checked=MEMORY,
        values={**ADAMW, "context": 2048, "schedule": "linear", "warmup_fraction": 0.1, "final_lr_ratio": 0.0},
        differs=("its runs are muP's, lr in τ = B/(lr·λ·D) that of the hidden matrices", "ALiBi positions"),
    ),
    "porian": Paper(
        source="Porian et al. (arXiv:2406.19146)",
        checked="the law alone, as others quote it; it is for about 20 tokens a parameter",
        differs=("batch and β2 tuned for each size", "about 20 tokens a parameter"),
    ),
}
