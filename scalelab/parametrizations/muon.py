"""muP with the shape factors that Muon's implementations have, in place of the spectral √(fan_out/fan_in).

A factor is a function of a matrix' sizes and no monomial, so here it is a `Factor`: its value at the target over its
value at the base. Published practice, not a derivation: of these only the spectral one (`mup`) keeps the change of a
layer's output for every shape.
"""

import math
from dataclasses import replace

from scalelab.parametrizations.mup import MUP
from scalelab.parametrizations.sp import SP
from scalelab.parametrizations.table import Family, Parametrization, Role, Rule
from scalelab.scale import Factor, Ratios


def _sizes(ratios: Ratios) -> tuple[float, float]:
    return float(ratios.fan_out * ratios.base_fan_out), float(ratios.fan_in * ratios.base_fan_in)


def _original(ratios: Ratios) -> float:
    fan_out, fan_in = _sizes(ratios)
    return math.sqrt(max(1.0, fan_out / fan_in) / max(1.0, ratios.base_fan_out / ratios.base_fan_in))


def _match_rms(ratios: Ratios) -> float:
    return math.sqrt(max(*_sizes(ratios)) / max(ratios.base_fan_out, ratios.base_fan_in))


ORIGINAL = Factor(name="√max(1, n_out/n_in)", function=_original)
MATCH_RMS = Factor(name="√max(n_out, n_in)", function=_match_rms)


def _with(form: Parametrization, factor: Factor, name: str, title: str, source: str, note: str) -> Parametrization:
    def shaped(role: Role, family: Family, rule: Rule) -> Rule:
        matrix = family is Family.MUON and role in (Role.HIDDEN, Role.EXPERT)
        return replace(rule, lr=factor, weight_decay=factor**-1) if matrix else rule

    rules = form.edited(shaped, (Family.MUON, Family.ADAM))
    return replace(form, name=name, title=title, source=source, rules=rules, notes=(note,))


MUON_ORIGINAL = _with(
    MUP,
    ORIGINAL,
    "muon_original",
    "muP with Muon's original shape factor",
    "KellerJordan/Muon muon.py; torch.optim.Muon adjust_lr_fn='original'; Adam's cells arXiv:2203.03466",
    "Equal to the spectral factor where fan_out ≥ fan_in at base and target; a down-projection whose fan-in grows"
    " faster than its fan-out is not slowed down.",
)
MUON_MATCH_RMS = _with(
    SP,
    MATCH_RMS,
    "muon_match_rms",
    "SP with Muon matched to Adam's update size (Moonlight)",
    "Moonlight (arXiv:2502.16982) §2.2: 0.2·√max(n_out, n_in); torch.optim.Muon adjust_lr_fn='match_rms_adamw'",
    "The factor makes a Muon step as large as an Adam step of the same lr, which is what grows like width under SP:"
    " the optimum is not claimed to transfer. Together with Adam's muP lr of 1/m a fall by √m would be left.",
)
