"""Where the forward multiplier of a parameter goes: on the module that owns it."""

from collections.abc import Mapping, Sequence

from torch import nn

from scalelab.errors import Refused
from scalelab.modules.layouts import LOOKUPS, classes
from scalelab.modules.parameters import Parameter
from scalelab.modules.roles import Claim
from scalelab.parametrizations.table import Role
from scalelab.resolve import Setting

LINEAR = ("Linear", "_ConvNd", "Conv1D")  # linear in their first input, up to a bias
Place = tuple[nn.Module, float, bool]  # the module, its factor, whether on its output


def places(
    model: nn.Module,
    found: Sequence[Parameter],
    claimed: Mapping[str, Claim],
    settings: Sequence[Setting],
    linear: Mapping[str, nn.Module],
) -> list[Place]:
    """The modules to scale; `Refused` where a parameter has a multiplier and its module cannot take it."""
    named = {id(module) for module in linear.values()}
    hooks = []
    for each, setting in zip(found, settings, strict=True):
        if setting.multiplier == 1.0:
            continue
        # A table that is looked up in one place and read out in another is multiplied where it reads out.
        tied = claimed[each.name].role is Role.TIED
        owners = [use.owner for use in each.uses if not (tied and _is(use.owner, LOOKUPS))]
        if not owners:
            raise Refused(f"{each.name} is tied, and no module reads out with it whose input could be scaled")
        for owner in owners:
            known = _is(owner, (*LOOKUPS, *LINEAR)) and each.uses[0].leaf == "weight"
            if not known and id(owner) not in named:
                raise Refused(
                    f"{each.name} has a multiplier of {setting.multiplier:g} and {classes(owner)[0]} is not known to be"
                    " linear in its first input: name it in linear=('pattern',) if it is, or say fold=True"
                )
            hooks.append((owner, setting.multiplier, _is(owner, LOOKUPS)))
    return hooks


def _is(module: nn.Module, names: Sequence[str]) -> bool:
    return any(kind in names for kind in classes(module))
