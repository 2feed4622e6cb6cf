"""Standard parametrization: fan-in init, one learning rate for every tensor."""

from fractions import Fraction

from scalelab.parametrizations.table import Family, Parametrization, Role, Rule, Site
from scalelab.scale import ONE, Power

FAN_IN_INIT = Power(fan_in=Fraction(-1, 2))
INITS = {
    Role.EMBEDDING: ONE,
    Role.HIDDEN: FAN_IN_INIT,
    Role.GAIN: ONE,
    Role.BIAS: ONE,
    Role.SCALAR: ONE,
    Role.ROUTER: FAN_IN_INIT,
    Role.EXPERT: FAN_IN_INIT,
    Role.READOUT: FAN_IN_INIT,
    Role.TIED: Power(fan_out=Fraction(-1, 2)),  # read out over its width: the readout's 1/√fan_in
}


def _constant(init: Power, family: Family) -> Rule:
    eps = None if family.eps_degree is None else ONE
    return Rule(multiplier=ONE, init=init, lr=ONE, weight_decay=ONE, eps=eps)


SP = Parametrization(
    name="sp",
    title="Standard parametrization (SP)",
    source="TP-V (arXiv:2203.03466) Table 8, values in parentheses; attention 1/√d_head",
    rules={(role, family): _constant(init, family) for family in Family for role, init in INITS.items()},
    transfers=(),
    sites={Site.ATTENTION: Power(head_dim=Fraction(-1, 2)), Site.RESIDUAL: ONE},
)
