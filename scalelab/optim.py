"""Optimizers from resolved settings: ordinary torch parameter groups, one for each set of shared values."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

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
            "family": group.family,
            "peak_lr": group.lr,
            "lr": group.lr,
            "weight_decay": group.weight_decay,
        }
        found.append(entry if group.eps is None else {**entry, "eps": group.eps})
    if parameters:
        raise RuntimeError(f"parameters without a group: {', '.join(parameters)}")
    return found


def _adamw(grouped: Groups, spec: RunSpec) -> torch.optim.Optimizer:
    # Fused: several times the default's speed on a CPU.
    return torch.optim.AdamW(grouped, betas=betas(spec), fused=True)


def _sgd(grouped: Groups, spec: RunSpec) -> torch.optim.Optimizer:
    return torch.optim.SGD(grouped, lr=spec.hparams.lr, momentum=spec.hparams.momentum)


def _muon(grouped: Groups, spec: RunSpec) -> torch.optim.Optimizer:
    # bfloat16 is for tensor cores: on a CPU it is seventy times slower than float32.
    on_cpu = all(p.device.type == "cpu" for group in grouped for p in group["params"])
    dtype = torch.float32 if on_cpu else torch.bfloat16
    return Muon(grouped, lr=spec.hparams.lr, momentum=spec.hparams.momentum, ns_dtype=dtype)


def _shampoo(root: float) -> Callable[[Groups, RunSpec], torch.optim.Optimizer]:
    return lambda grouped, spec: Shampoo(grouped, lr=spec.hparams.lr, betas=betas(spec), root=root, damping="absolute")


BUILDERS: dict[str, Callable[[Groups, RunSpec], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
    "adam_atan2": lambda grouped, spec: AdamAtan2(grouped, lr=spec.hparams.lr, betas=betas(spec)),
    "lion": lambda grouped, spec: Lion(grouped, lr=spec.hparams.lr, betas=betas(spec)),
    "adafactor": lambda grouped, spec: Adafactor(grouped, lr=spec.hparams.lr),
    "muon": _muon,
    "shampoo": _shampoo(1 / 4),
    "shampoo_half": _shampoo(1 / 2),
    "soap": lambda grouped, spec: SOAP(grouped, lr=spec.hparams.lr, betas=betas(spec)),
    "adamw_muon": _adamw,
}


def optimizers(network: nn.Module, spec: RunSpec, *, then: bool = False) -> list[torch.optim.Optimizer]:
    """The torch optimizers of a spec: one, or two where a matrix optimizer hands the rest to AdamW.

    `then` asks for those that take over when the learning rate starts to fall.
    """
    name = spec.kind.then if then and spec.kind.then else spec.optimizer
    grouped = parameter_groups(network, settings(spec, optimizer=name))
    handed = [group for group in grouped if group["family"] is Family.ADAM]
    kept = [group for group in grouped if group["family"] is not Family.ADAM]
    if not kept or not handed:
        return [BUILDERS[name](grouped, spec)]
    return [BUILDERS[name](kept, spec), _adamw(handed, spec)]


def set_lr(found: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Put every group at `factor` times its own peak, so that the ratios between groups stay."""
    for optimizer in found:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
