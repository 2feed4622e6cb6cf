"""u-muP, the unit-scaled maximal update parametrization: absolute factors of a tensor's sizes, no base shape.

The base is the shape of ones, so a ratio here is a size. Weights start at unit variance, and the operations of the
network (`networks.unit_ops`) keep activations and gradients there.
"""

from fractions import Fraction

from scalelab.parametrizations.table import Family, Parametrization, Role, Rule, Site
from scalelab.scale import ONE, Power

HALF = Fraction(1, 2)
ROOT_DEPTH = Power(depth=-HALF)


def _rule(multiplier: Power, lr: Power) -> Rule:
    # Weight decay is independent of the learning rate, tensor by tensor: lr·weight_decay is the same everywhere.
    return Rule(multiplier=multiplier, init=ONE, lr=lr, weight_decay=lr**-1, eps=ONE)


U_MUP = Parametrization(
    name="u_mup",
    title="u-muP (unit-scaled muP)",
    source="u-muP (arXiv:2407.17465) Table 2; gains and biases: graphcore-research/unit-scaling 0.3.5 optim.py",
    rules={
        (Role.EMBEDDING, Family.ADAM): _rule(ONE, Power(fan_out=-HALF)),
        (Role.HIDDEN, Family.ADAM): _rule(Power(fan_in=-HALF), Power(fan_in=-HALF) * ROOT_DEPTH),
        (Role.GAIN, Family.ADAM): _rule(ONE, ROOT_DEPTH),
        (Role.BIAS, Family.ADAM): _rule(ONE, ROOT_DEPTH),
        (Role.READOUT, Family.ADAM): _rule(Power(fan_in=-1), ONE),
    },
    transfers=("width", "depth"),
    sites={Site.ATTENTION: Power(head_dim=-1), Site.RESIDUAL: ROOT_DEPTH},
    unit_scaled=True,
    notes=(
        "Sizes, not ratios: there is no base shape. What flows back through the readout is scaled by 1/√fan_out"
        " where its forward pass is by 1/fan_in; residual branches are mixed by τ, which amounts to 1/√depth.",
        "The global norm of unit-scale gradients grows like √N: clip_norm, if any, is not what it is elsewhere.",
        "eps has no factor: gradients are at unit scale at initialisation.",
    ),
)
