"""Optimizers from resolved settings: ordinary torch parameter groups, one for each set of shared values."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from scalelab.hparams import Hparams
from scalelab.optimizers.adafactor import Adafactor
from scalelab.optimizers.adam_atan2 import AdamAtan2
from scalelab.optimizers.lion import Lion
from scalelab.optimizers.muon import Muon
from scalelab.optimizers.shampoo import Shampoo
from scalelab.optimizers.soap import SOAP
from scalelab.parametrizations.table import Family
from scalelab.resolve import Setting, betas, groups, settings
from scalelab.spec import RunSpec

Groups = list[dict[str, Any]]
Betas = tuple[float, float]
Builder = Callable[[Groups, Hparams, Betas], torch.optim.Optimizer]


def parameter_groups(network: nn.Module, resolved: Sequence[Setting]) -> Groups:
    """The parameters of a network as a partition into torch parameter groups, in a deterministic order.

    Each group carries its `names`, its `family`, its `peak_lr` and the values torch reads (`lr`, `weight_decay`, `eps`
    where there is one).
    """
    parameters = dict(network.named_parameters())
    found = []
    for group in groups(resolved):
        entry = {
            "params": [parameters.pop(name) for name in group.names],
            "names": list(group.names),
            "family": str(group.family),  # a plain string: a checkpoint of the optimizer loads with weights_only
            "peak_lr": group.lr,
            "lr": group.lr,
            "weight_decay": group.weight_decay,
        }
        found.append(entry if group.eps is None else {**entry, "eps": group.eps})
    if parameters:
        raise RuntimeError(f"parameters without a group: {', '.join(parameters)}")
    return found


def _adamw(grouped: Groups, hparams: Hparams, betas: Betas) -> torch.optim.Optimizer:
    # Fused: several times the default's speed on a CPU.
    return torch.optim.AdamW(grouped, betas=betas, fused=True)


def _muon(grouped: Groups, hparams: Hparams, betas: Betas) -> torch.optim.Optimizer:
    # bfloat16 is for tensor cores: on a CPU it is seventy times slower than float32.
    on_cpu = all(p.device.type == "cpu" for group in grouped for p in group["params"])
    dtype = torch.float32 if on_cpu else torch.bfloat16
    return Muon(grouped, momentum=hparams.momentum, ns_dtype=dtype)


def _shampoo(root: float) -> Builder:
    return lambda grouped, hparams, betas: Shampoo(grouped, betas=betas, root=root, damping="absolute")


# From parameter groups that carry lr, weight_decay and eps, and what all groups share.
BUILDERS: dict[str, Builder] = {
    "adamw": _adamw,
    "sgd": lambda grouped, hparams, betas: torch.optim.SGD(grouped, momentum=hparams.momentum),
    "adam_atan2": lambda grouped, hparams, betas: AdamAtan2(grouped, betas=betas),
    "lion": lambda grouped, hparams, betas: Lion(grouped, betas=betas),
    "adafactor": lambda grouped, hparams, betas: Adafactor(grouped),
    "muon": _muon,
    "shampoo": _shampoo(1 / 4),
    "shampoo_half": _shampoo(1 / 2),
    "soap": lambda grouped, hparams, betas: SOAP(grouped, betas=betas),
    "adamw_muon": _adamw,
}


def built(name: str, grouped: Groups, hparams: Hparams, betas: Betas) -> list[torch.optim.Optimizer]:
    """An optimizer of that name from parameter groups: one, or two where it hands what is no matrix to AdamW."""
    handed = [group for group in grouped if group["family"] == Family.ADAM]
    kept = [group for group in grouped if group["family"] != Family.ADAM]
    if not kept or not handed:
        return [BUILDERS[name](grouped, hparams, betas)]
    return [BUILDERS[name](kept, hparams, betas), _adamw(handed, hparams, betas)]


def optimizers(network: nn.Module, spec: RunSpec, *, then: bool = False) -> list[torch.optim.Optimizer]:
    """The torch optimizers of a spec: one, or two where a matrix optimizer hands the rest to AdamW.

    `then` asks for those that take over when the learning rate starts to fall.
    """
    name = spec.kind.then if then and spec.kind.then else spec.optimizer
    grouped = parameter_groups(network, settings(spec, optimizer=name))
    return built(name, grouped, spec.hparams, betas(spec))


def hand_over(before: Sequence[torch.optim.Optimizer], after: Sequence[torch.optim.Optimizer]) -> None:
    """Moments of tensors that stay in the same family, from the optimizers before a change of hands to those after.

    Those of the matrices are dropped: AdamW's and Muon's mean different things.
    """
    state = {
        (group["family"], parameter): optimizer.state[parameter]
        for optimizer in before
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for optimizer in after:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if (group["family"], parameter) in state:
                    optimizer.state[parameter] = state[group["family"], parameter]


def set_lr(found: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Put every group at `factor` times its own peak, so that the ratios between groups stay."""
    for optimizer in found:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
