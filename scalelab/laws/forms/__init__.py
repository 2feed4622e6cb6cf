"""The registered laws and what others published for them. To add one, write a file that ends in a `Law`, and a line."""

from scalelab.errors import unknown
from scalelab.laws.forms.asymptote import ASYMPTOTE, MU_SCALING
from scalelab.laws.forms.bnsl import BNSL
from scalelab.laws.forms.chinchilla import CHINCHILLA
from scalelab.laws.forms.clark import CLARK, CLARK_BILINEAR
from scalelab.laws.forms.decay import TRAJECTORY_INVARIANCE, WANG_AITCHISON_DECAY
from scalelab.laws.forms.deepseek import DEEPSEEK_BATCH, DEEPSEEK_LR
from scalelab.laws.forms.efficiency_leverage import EFFICIENCY_LEVERAGE
from scalelab.laws.forms.gadre import GADRE
from scalelab.laws.forms.gamma import GAMMA
from scalelab.laws.forms.kaplan import KAPLAN, KAPLAN_COMPUTE, KAPLAN_DATA, KAPLAN_SIZE
from scalelab.laws.forms.loss_batch import KAPLAN_CRITICAL_BATCH, MINICPM_BATCH
from scalelab.laws.forms.muennighoff import MUENNIGHOFF, MUENNIGHOFF_REPEATS
from scalelab.laws.forms.parscale import PARSCALE
from scalelab.laws.forms.power_lines import (
    POWER_LINES_BATCH,
    POWER_LINES_CRITICAL_BATCH,
    POWER_LINES_DECAY,
    POWER_LINES_TAU,
)
from scalelab.laws.forms.rates import BJORCK_LR, PORIAN_LR, SCION_BATCH, SCION_LR
from scalelab.laws.forms.repeat_penalty import REPEAT_PENALTY
from scalelab.laws.forms.rl_size import RL_SIZE
from scalelab.laws.forms.saturating import SATURATING
from scalelab.laws.forms.sparsity import SPARSITY
from scalelab.laws.forms.step_law import CONDITIONAL_LR, STEP_LAW_BATCH, STEP_LAW_LR
from scalelab.laws.forms.three_term import THREE_TERM
from scalelab.laws.forms.width_depth import POWER_DEPTH, POWER_WIDTH
from scalelab.laws.law import Law, Published

LAWS: dict[str, Law] = {
    # loss
    "kaplan": KAPLAN,
    "kaplan_size": KAPLAN_SIZE,
    "kaplan_data": KAPLAN_DATA,
    "kaplan_compute": KAPLAN_COMPUTE,
    "chinchilla": CHINCHILLA,
    "gamma": GAMMA,
    "three_term": THREE_TERM,
    "gadre": GADRE,
    "muennighoff": MUENNIGHOFF,
    "muennighoff_repeats": MUENNIGHOFF_REPEATS,
    "repeat_penalty": REPEAT_PENALTY,
    "saturating": SATURATING,
    "asymptote": ASYMPTOTE,
    "mu_scaling": MU_SCALING,
    "clark": CLARK,
    "clark_bilinear": CLARK_BILINEAR,
    "sparsity": SPARSITY,
    "parscale": PARSCALE,
    "bnsl": BNSL,
    # other qualities of a run
    "efficiency_leverage": EFFICIENCY_LEVERAGE,
    "rl_size": RL_SIZE,
    # learning rate
    "step_law_lr": STEP_LAW_LR,
    "conditional_lr": CONDITIONAL_LR,
    "deepseek_lr": DEEPSEEK_LR,
    "bjorck_lr": BJORCK_LR,
    "porian_lr": PORIAN_LR,
    "scion_lr": SCION_LR,
    "power_width": POWER_WIDTH,
    "power_depth": POWER_DEPTH,
    # batch
    "step_law_batch": STEP_LAW_BATCH,
    "deepseek_batch": DEEPSEEK_BATCH,
    "scion_batch": SCION_BATCH,
    "power_lines_batch": POWER_LINES_BATCH,
    "power_lines_critical_batch": POWER_LINES_CRITICAL_BATCH,
    "kaplan_critical_batch": KAPLAN_CRITICAL_BATCH,
    "minicpm_batch": MINICPM_BATCH,
    # weight decay
    "power_lines_tau": POWER_LINES_TAU,
    "power_lines_decay": POWER_LINES_DECAY,
    "wang_aitchison_decay": WANG_AITCHISON_DECAY,
    "trajectory_invariance": TRAJECTORY_INVARIANCE,
}

PUBLISHED: dict[str, Published] = {
    f"{law_name}/{name}": entry for law_name, law in LAWS.items() for name, entry in law.published.items()
}


def published(name: str) -> Published:
    """Published coefficients by "law/name", or by the name alone where one law only has it.

    >>> published("chinchilla/epoch").parameters["alpha"]
    0.3478
    >>> published("minicpm").law.name
    'minicpm_batch'
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    matches = [key for key in PUBLISHED if key.split("/")[1] == name]
    if len(matches) != 1:
        raise unknown("published law", name, matches or PUBLISHED)
    return PUBLISHED[matches[0]]
