"""Maximal update parametrization (muP) in width, in the form of Tensor Programs V's Table 8.

Its Table 3, the form without multipliers, is one condition for all tensors: the change of a layer's output must not
depend on width (the spectral condition, arXiv:2310.17813). So it is stated once, as a function of fan-in and fan-out
for each optimizer family, and Table 8 follows by the abc-symmetry. Ratios are per tensor: a down-projection uses its
own fan-in, a grouped key/value projection its own fan-out.
"""

from dataclasses import replace
from fractions import Fraction

from scalelab.parametrizations.table import Family, Parametrization, Role, Rule, Site
from scalelab.scale import ONE, Power

HALF = Fraction(1, 2)

# The dimensions of a tensor that grow with width; a rule is restricted to them.
GROWING: dict[Role, tuple[str, ...]] = {
    Role.EMBEDDING: ("fan_out",),
    Role.HIDDEN: ("fan_in", "fan_out"),
    Role.GAIN: ("fan_out",),
    Role.BIAS: ("fan_out",),
    Role.SCALAR: (),
    Role.ROUTER: ("fan_in",),  # "a multiplier of order 1/fan_in should accompany any weight that maps an infinite
    Role.EXPERT: ("fan_in", "fan_out"),  # dimension to a finite one" (TP-V); muP for MoE (arXiv:2508.09752)
    Role.READOUT: ("fan_in",),
    Role.TIED: ("fan_out",),
}
VECTORS = (Role.GAIN, Role.BIAS, Role.SCALAR)
OUTPUT_LIKE = (Role.READOUT, Role.ROUTER)

# Table 3's learning rates. ADAM, SGD: TP-V. ADAFACTOR: TP-V App. B.3, "hidden 1/√fan_in" where the step is normalised
# to the parameter. MUON and the rest: arXiv:2512.05620, arXiv:2312.12226, and one-step exponents measured in the tests.
LR = {
    Family.ADAM: Power(fan_in=-1),
    Family.SGD: Power(fan_out=1, fan_in=-1),
    Family.MUON: Power(fan_out=HALF, fan_in=-HALF),
    Family.SHAMPOO: Power(fan_out=HALF, fan_in=-HALF),
    Family.SHAMPOO_HALF: ONE,
    Family.SOAP: Power(fan_out=HALF, fan_in=-HALF),
    Family.KFAC: ONE,
}
# What eps must keep up with: Adam's the gradient's entries, Muon's and SOAP's its norm, Shampoo's its norm squared.
EPS = {
    Family.MUON: Power(fan_in=HALF, fan_out=-HALF),
    Family.SHAMPOO: Power(fan_in=1, fan_out=-1),
    Family.SHAMPOO_HALF: Power(fan_in=1, fan_out=-1),
    Family.SOAP: Power(fan_in=HALF, fan_out=-HALF),
    Family.KFAC: Power(fan_out=-1),
}
MATRIX_FAMILIES = tuple(EPS)  # their optimizers hand vectors to Adam
# The gradient of a router and of an expert in the number of experts, each of which sees top_k/experts of the tokens at
# weights of about 1/top_k. Derived: -1 where all tokens pull an expert the same way, -1/2 where they pull in orthogonal
# ones. Measured on 4 to 32 experts (tests/networks/test_moe.py): experts -0.58 to -0.74, router -0.39 to -0.65; in
# top_k, -0.2 and -0.1. Only eps follows: what steps of Adam, SGD or Muon change in an expert's output moves by E^0.1,
# E^-0.25, E^0. arXiv:2508.09752 derives widths; the table has not been read, the roles are from its abstract.
SPARSE = (Role.ROUTER, Role.EXPERT)
GRADIENT_IN_EXPERTS = Power(experts=-HALF)


def _restricted(power: Power, role: Role) -> Power:
    return Power(**{name: exponent for name, exponent in power.exponents if name in GROWING[role]})


def _init(role: Role) -> Power:
    if role in OUTPUT_LIKE:
        return Power(fan_in=-1)
    return Power(fan_in=-HALF) if role in (Role.HIDDEN, Role.EXPERT) else ONE


def _eps(role: Role, family: Family) -> Power | None:
    eps = _dense_eps(role, family)
    if eps is None or role not in SPARSE or family.eps_degree is None:
        return eps
    return eps * GRADIENT_IN_EXPERTS**family.eps_degree


def _dense_eps(role: Role, family: Family) -> Power | None:
    if family is Family.ADAM:
        # TP-V App. B.3: like 1/fan_in after the square root, where fan_in is the width. A gradient of a Table 3
        # readout does not shrink.
        hidden = Power(fan_in=-1)
        return ONE if role in OUTPUT_LIKE else hidden if role in (Role.HIDDEN, Role.EXPERT) else _width(role)
    return _restricted(EPS[family], role) if family in EPS else None


def _width(role: Role) -> Power:
    return _restricted(Power(fan_out=-1), role)


def _table_3(role: Role, family: Family) -> Rule:
    init = _init(role)
    lr = _restricted(LR[Family.ADAM], role) / init if family is Family.ADAFACTOR else _restricted(LR[family], role)
    return Rule(
        multiplier=ONE,
        init=init,
        lr=lr,
        weight_decay=lr**-1,  # keeps lr·weight_decay: mup 1.0.0 optim.py; CompleteP Table 1, µP column
        eps=_eps(role, family),
        eps_input=_restricted(Power(fan_in=1), role) if family is Family.KFAC else None,
    )


def _table_8(role: Role, family: Family) -> Rule:
    rule = _table_3(role, family)
    if role is Role.TIED:  # initialised and trained as the embedding; the multiplier is where it reads out
        return replace(rule, multiplier=Power(fan_out=-1))
    return rule.shifted(Power(fan_in=-1), family) if role in OUTPUT_LIKE else rule


def _covered(role: Role, family: Family) -> bool:
    return family not in MATRIX_FAMILIES or role not in (*VECTORS, Role.TIED)


MUP = Parametrization(
    name="mup",
    title="muP in width (Tensor Programs V)",
    source="TP-V (arXiv:2203.03466) Table 8; eps: its App. B.3; weight decay: CompleteP (arXiv:2505.01618) Table 1;"
    " Muon, Shampoo, SOAP: arXiv:2512.05620; K-FAC: arXiv:2312.12226; router, experts: arXiv:2508.09752",
    rules={(role, family): _table_8(role, family) for family in Family for role in Role if _covered(role, family)},
    transfers=("width",),
    sites={Site.ATTENTION: Power(head_dim=-1), Site.RESIDUAL: ONE},  # 1/√d0 at the base, then 1/d
    notes=(
        "TP-V's text wants weight decay 'scaled independently of width'; the mup package and CompleteP's µP column"
        " multiply the hidden one by m under AdamW, as here, so that lr·weight_decay stays.",
        "eps ×1/m for every tensor is TP-V's text for Adam; the mup package leaves eps alone: see mup_package.",
        "eps is stated for matrices whose sides grow together; where one alone does, a gradient moves with both.",
        "SOAP's rate is the published one; over several batches activations were measured to change by √width under it:"
        " see mup_soap_dense. Shampoo's with root ½ holds where damping is of the size of the top eigenvalue.",
    ),
)

MUP_PACKAGE = replace(
    MUP,
    name="mup_package",
    title="muP with the mup package's optimizers",
    source="microsoft/mup 1.0.0: MuAdamW, MuSGD, MuReadout",
    rules=MUP.edited(lambda role, family, rule: replace(rule, eps=rule.eps and ONE), (Family.ADAM, Family.SGD)),
    notes=("Differs from mup in one column: eps is not scaled. 1/d attention is the user's duty in the package.",),
)

CLIPPING = "Equal without clipping by the global norm, in which every gradient counts with its form's own scale."

MUP_TABLE_3 = replace(
    MUP.folded(),
    name="mup_table_3",
    title="muP in width, the form without multipliers",
    source="TP-V (arXiv:2203.03466) Table 3",
    notes=(
        "Equal to mup by the abc-symmetry, for teams that cannot patch a forward pass; cannot express a tied head.",
        CLIPPING,
    ),
)
MUP_TABLE_9 = replace(
    MUP.shifted({Role.EMBEDDING: Power(fan_out=HALF), Role.READOUT: Power(fan_in=HALF)}),
    name="mup_table_9",
    title="muP in width, the form of Tensor Programs IV",
    source="TP-V (arXiv:2203.03466) Table 9",
    notes=(
        "Equal to mup by the abc-symmetry. Biases and gains have no multiplier here, which is equal too.",
        CLIPPING,
    ),
)
