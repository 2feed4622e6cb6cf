"""Maximal update parametrization (muP) in width, in the form of Tensor Programs V's Table 8.

Ratios are per tensor: a down-projection uses its own fan-in, a grouped key/value projection its own fan-out.
"""

from dataclasses import replace
from fractions import Fraction

from scalelab.parametrizations.table import Family, Parametrization, Role, Rule, Site
from scalelab.scale import ONE, Power

HALF = Fraction(1, 2)

ADAM = {
    Role.EMBEDDING: Rule(multiplier=ONE, init=ONE, lr=ONE, weight_decay=ONE, eps=Power(fan_out=-1)),
    Role.HIDDEN: Rule(
        multiplier=ONE,
        init=Power(fan_in=-HALF),
        lr=Power(fan_in=-1),
        weight_decay=Power(fan_in=1),  # keeps lr·weight_decay: mup 1.0.0 optim.py; CompleteP Table 1, µP column
        eps=Power(fan_in=-1),
    ),
    Role.GAIN: Rule(multiplier=ONE, init=ONE, lr=ONE, weight_decay=ONE, eps=Power(fan_out=-1)),
    Role.BIAS: Rule(multiplier=ONE, init=ONE, lr=ONE, weight_decay=ONE, eps=Power(fan_out=-1)),
    Role.READOUT: Rule(multiplier=Power(fan_in=-1), init=ONE, lr=ONE, weight_decay=ONE, eps=Power(fan_in=-1)),
    Role.TIED: Rule(multiplier=Power(fan_out=-1), init=ONE, lr=ONE, weight_decay=ONE, eps=Power(fan_out=-1)),
}

SGD = {
    Role.EMBEDDING: Rule(multiplier=ONE, init=ONE, lr=Power(fan_out=1), weight_decay=Power(fan_out=-1), eps=None),
    Role.HIDDEN: Rule(
        multiplier=ONE,
        init=Power(fan_in=-HALF),
        lr=Power(fan_out=1, fan_in=-1),
        weight_decay=Power(fan_out=-1, fan_in=1),
        eps=None,
    ),
    Role.GAIN: Rule(multiplier=ONE, init=ONE, lr=Power(fan_out=1), weight_decay=Power(fan_out=-1), eps=None),
    Role.BIAS: Rule(multiplier=ONE, init=ONE, lr=Power(fan_out=1), weight_decay=Power(fan_out=-1), eps=None),
    Role.READOUT: Rule(
        multiplier=Power(fan_in=-1), init=ONE, lr=Power(fan_in=1), weight_decay=Power(fan_in=-1), eps=None
    ),
    Role.TIED: Rule(
        multiplier=Power(fan_out=-1), init=ONE, lr=Power(fan_out=1), weight_decay=Power(fan_out=-1), eps=None
    ),
}

MUP = Parametrization(
    name="mup",
    title="muP in width (Tensor Programs V)",
    source="TP-V (arXiv:2203.03466) Table 8; eps: its App. B.3; weight decay: CompleteP (arXiv:2505.01618) Table 1",
    rules={
        **{(role, Family.ADAM): rule for role, rule in ADAM.items()},
        **{(role, Family.SGD): rule for role, rule in SGD.items()},
    },
    transfers=("width",),
    sites={Site.ATTENTION: Power(head_dim=-1), Site.RESIDUAL: ONE},  # 1/√d0 at the base, then 1/d
    notes=(
        "TP-V's text wants weight decay 'scaled independently of width'; the mup package and CompleteP's µP column"
        " multiply the hidden one by m under AdamW, as here, so that lr·weight_decay stays.",
        "eps ×1/m for every tensor is TP-V's text for Adam; the mup package leaves eps alone: see mup_package.",
    ),
)

MUP_PACKAGE = replace(
    MUP,
    name="mup_package",
    title="muP with the mup package's optimizers",
    source="microsoft/mup 1.0.0: MuAdamW, MuSGD, MuReadout",
    rules={(role, family): replace(rule, eps=rule.eps and ONE) for (role, family), rule in MUP.rules.items()},
    notes=("Differs from mup in one column: eps is not scaled. 1/d attention is the user's duty in the package.",),
)
