"""Standard parametrization: fan-in init, one learning rate for every tensor."""

from fractions import Fraction

from scalelab.parametrizations.table import Family, Parametrization, Role, Rule, Site
from scalelab.scale import ONE, Power

FAN_IN_INIT = Power(fan_in=Fraction(-1, 2))


def _constant(init: Power, eps: Power | None) -> Rule:
    return Rule(multiplier=ONE, init=init, lr=ONE, weight_decay=ONE, eps=eps)


INITS = {
    Role.EMBEDDING: ONE,
    Role.HIDDEN: FAN_IN_INIT,
    Role.GAIN: ONE,
    Role.BIAS: ONE,
    Role.READOUT: FAN_IN_INIT,
    Role.TIED: Power(fan_out=Fraction(-1, 2)),  # read out over its width: the readout's 1/√fan_in
}

SP = Parametrization(
    name="sp",
    title="Standard parametrization (SP)",
    source="TP-V (arXiv:2203.03466) Table 8, values in parentheses; attention 1/√d_head",
    rules={
        **{(role, Family.ADAM): _constant(init, ONE) for role, init in INITS.items()},
        **{(role, Family.SGD): _constant(init, None) for role, init in INITS.items()},
    },
    transfers=(),
    sites={Site.ATTENTION: Power(head_dim=Fraction(-1, 2)), Site.RESIDUAL: ONE},
)
