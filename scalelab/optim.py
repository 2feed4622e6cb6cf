"""Optimizers from resolved settings: ordinary torch parameter groups, one for each set of shared values."""

from typing import Any

import torch
from torch import nn

from scalelab.resolve import groups, settings
from scalelab.spec import RunSpec


def parameter_groups(network: nn.Module, spec: RunSpec) -> list[dict[str, Any]]:
    """The parameters of a network as a partition into torch parameter groups, in a deterministic order.

    Each group carries its `names`, its `peak_lr` and the values torch reads (`lr`, `weight_decay`, `eps` for Adam).
    """
    parameters = dict(network.named_parameters())
    found = []
    for group in groups(settings(spec)):
        entry = {
            "params": [parameters.pop(name) for name in group.names],
            "names": list(group.names),
            "peak_lr": group.lr,
            "lr": group.lr,
            "weight_decay": group.weight_decay,
        }
        found.append(entry if group.eps is None else {**entry, "eps": group.eps})
    if parameters:
        raise RuntimeError(f"parameters without a group: {', '.join(parameters)}")
    return found


def optimizer(network: nn.Module, spec: RunSpec) -> torch.optim.Optimizer:
    """The torch optimizer of a spec: AdamW (fused: several times the default's speed on a CPU) or SGD."""
    grouped, hparams = parameter_groups(network, spec), spec.hparams
    if spec.optimizer == "sgd":
        return torch.optim.SGD(grouped, lr=hparams.lr, momentum=hparams.momentum)
    return torch.optim.AdamW(grouped, lr=hparams.lr, betas=(hparams.beta1, hparams.beta2), fused=True)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Put every group at `factor` times its own peak, so that the ratios between groups stay."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
