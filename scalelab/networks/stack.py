"""A stack of M networks as one: each parameter [M, …], in which each member's own network has its part.

What is done to the stack is done to its members' networks. These stay ordinary modules: their parameters, gradients and
state dicts are those of a network that is trained alone.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from scalelab.networks.layers import Proxy


def stacked(networks: Sequence[Proxy]) -> Proxy:
    """The stack of ordinary networks of the same tensors, whose parameters are parts of its own from then on."""
    owned = [dict(network.named_parameters()) for network in networks]
    leaves = {}
    for name, first in owned[0].items():
        leaf = nn.Parameter(torch.stack([own[name].detach() for own in owned]))
        for own, part in zip(owned, leaf.detach(), strict=True):
            own[name].data = part
        leaves[id(first)] = leaf
    stack = _copied(networks[0], leaves)
    device = next(stack.parameters()).device
    for merged, *own_modules in zip(stack.modules(), *(network.modules() for network in networks), strict=True):
        for name in constants(merged):
            vars(merged)[name] = _merged([getattr(module, name) for module in own_modules], device)
    return stack


def selected(stack: Proxy, members: Sequence[int]) -> Proxy:
    """A stack of some of the members, by copies, to be looked at and not to be trained."""
    at = torch.tensor(members, device=next(stack.parameters()).device)
    leaves = {id(leaf): nn.Parameter(leaf.detach()[at], requires_grad=False) for leaf in stack.parameters()}
    chosen = _copied(stack, leaves)
    for module in chosen.modules():
        for name in constants(module):
            if isinstance(value := getattr(module, name), Tensor):
                vars(module)[name] = value[at]
    return chosen


def constants(module: nn.Module) -> tuple[str, ...]:
    """The attributes of a module that are numbers and may differ between members of a stack."""
    names: tuple[str, ...] = getattr(module, "constants", ())
    return names


def _copied(module: nn.Module, leaves: Mapping[int, nn.Parameter]) -> Proxy:
    """The tree of modules with other parameters; buffers are shared."""
    found = copy.copy(module)
    found._parameters = {name: p if p is None else leaves[id(p)] for name, p in module._parameters.items()}
    found._modules = {name: m if m is None else _copied(m, leaves) for name, m in module._modules.items()}
    return cast(Proxy, found)


def _merged(values: Sequence[float], device: torch.device) -> float | Tensor:
    if all(value == values[0] for value in values):
        return values[0]
    return torch.tensor(values, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
