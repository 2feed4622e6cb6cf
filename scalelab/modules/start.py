"""Where a foreign model starts: its own initialisation, rescaled to what a table says.

The table's factor is on the standard deviation at the base. The model's own init has moved from base to target by some
factor of its own: torch's default by 1/√fan_in on every tensor, GPT-2's 0.02 by none. So a parameter is multiplied by
(the table's factor) / (the init's own), and the init's own is measured: std here over std in the base, root mean
squares. Where that agrees, within what sampling can tell, with one law and no other — constant, 1/√ of the ratio of
fan_in or of fan_out — the law's exact value is taken, and no sampling noise enters. A bias follows its weight's law.
GPT-2's further 1/√(2·depth), on what writes to the residual stream, is the model's and is kept. What starts at zero,
gains and scalars stay as they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from scalelab.errors import Refused
from scalelab.models.tensors import Dim
from scalelab.modules.parameters import Parameter, matching
from scalelab.modules.roles import Claim
from scalelab.parametrizations.table import Role, Rule
from scalelab.scale import Ratios

SIGMAS = 4.0  # how far a measured ratio may lie from a law, in standard errors, to be that law
APART = 2.0  # how much further every other law must lie
STAY = (Role.GAIN, Role.SCALAR)
Std = float | Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """A parameter with its claim and its counterpart in the base."""

    parameter: Parameter
    claim: Claim
    base: nn.Parameter


@dataclass(frozen=True)
class Start:
    """What a parameter is multiplied by, and the standard deviation it then has."""

    factor: float
    std: float


def rms(value: torch.Tensor) -> float:
    """Root mean square of all entries, of all shards where it is one; 0 of no entries."""
    with torch.no_grad():
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value
        return float(whole.double().square().mean().sqrt()) if whole.numel() else 0.0


def start(each: Weighed, rule: Rule, ratios: Ratios, std: Std, *, weight: Weighed | None, deep: float) -> Start:
    """The start of one parameter; `Refused` where it cannot be known.

    `weight` is the matrix that a bias stands by, `deep` the factor by which the model's own init moves with depth.
    """
    parameter, name = each.parameter, each.parameter.name
    if parameter.value.is_meta:
        raise Refused(f"{name} is on the meta device: materialise the model first, or say init='keep'")
    now = rms(parameter.value)
    if each.claim.role in STAY or now == 0.0:
        return Start(1.0, now)
    wanted = _stated(parameter, std)
    if wanted is not None:
        wanted *= rule.init(ratios)
        return Start(wanted / now, wanted)
    if each.base.is_meta:
        raise Refused(
            f"the std that {name} starts with at the base is not known, the base being on the meta device: give a"
            " base that is built (a module), std= (a number, or {pattern: number}), or init='keep'"
        )
    if rms(each.base) == 0.0:
        raise Refused(f"{name} starts at zero in the base and not here: say std={{{name!r}: number}}")
    factor = rule.init(ratios) / own_law(each, weight, deep)
    return Start(factor, now * factor)


def own_law(each: Weighed, weight: Weighed | None = None, deep: float = 1.0) -> float:
    """The factor by which the model's own init moves with its width: a law's where one fits, else as measured."""
    measured = rms(each.parameter.value) / rms(each.base) / deep
    counts = math.prod(each.parameter.shape), math.prod(each.parameter.base)
    error = math.sqrt(sum(1 / (2 * count) for count in counts)) + 1e-6  # of the logarithm; a Gaussian's
    fan_in, fan_out, laws = each.claim.fan_in, each.claim.fan_out, {1.0}
    if weight is not None and rms(weight.parameter.value) and rms(weight.base):
        laws = {own_law(weight)}  # few numbers, and torch's layers give their biases the weight's law
    elif fan_in is not None:
        laws |= {float(fan_in.ratio) ** -0.5, float(fan_out.ratio) ** -0.5}
    away = {law: abs(math.log(measured / law)) / error for law in laws}
    nearest = min(laws, key=lambda law: away[law])
    others = [away[law] for law in laws if not math.isclose(law, nearest, rel_tol=1e-9)]
    clear = away[nearest] <= SIGMAS and all(other >= away[nearest] + APART for other in others)
    return nearest if clear else measured


def depth_scaled(weighed: Sequence[Weighed], depth: Dim | None) -> frozenset[str]:
    """The matrices whose std is 1/√(2·depth) of their siblings' in the blocks, here and, at its own depth, in the base.

    One width shows no difference between 1/√(2·depth) and 1/√fan_in; two depths do.
    """
    inside = [each for each in weighed if each.claim.fan_in is not None and each.parameter.uses[0].in_block]
    inside = [each for each in inside if not each.base.is_meta and not each.parameter.value.is_meta]
    found: frozenset[str] = frozenset()
    if depth is None or depth.ratio == 1:
        return found
    for here in (True, False):
        stds = {each.parameter.name: rms(each.parameter.value if here else each.base) for each in inside}
        usual = median([std for std in stds.values() if std] or [math.inf])
        expected = usual / math.sqrt(2 * (depth.size if here else depth.base))
        alike = frozenset(name for name, std in stds.items() if math.isclose(std, expected, rel_tol=0.1))
        found = alike if here else found & alike
    return found


def _stated(each: Parameter, std: Std) -> float | None:
    if std is None or isinstance(std, int | float):
        return std
    found = [value for pattern, value in std.items() if matching(pattern, each.matched)]
    if len(set(found)) > 1:
        raise Refused(f"{each.name} is claimed by several patterns of std: {', '.join(map(str, found))}")
    return found[0] if found else None
