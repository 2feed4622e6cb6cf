"""What a spec means for every tensor: the table's factors applied to the base values.

This is the one place where hyperparameters meet a parametrization; the trainer, the plan on screen, the recipe and the
exporters all read its result.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scalelab.models import inventory
from scalelab.models.tensors import Tensor
from scalelab.parametrizations import table
from scalelab.parametrizations.table import Role, Site
from scalelab.scale import Ratios
from scalelab.spec import RunSpec, tensor_ratios

UNDECAYED = (Role.GAIN, Role.BIAS)  # weight decay is for matrices: TP-V and GPT-2 practice


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The resolved values of one tensor.

    `init_std` 0 means zeros for matrices and biases; gains start at 1. `lr` is the peak learning rate, `weight_decay`
    torch's λ (a step decays by lr·λ), `eps` Adam's term after the square root (None under SGD).
    """

    tensor: Tensor
    init_std: float
    multiplier: float
    lr: float
    weight_decay: float
    eps: float | None


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """The forward constants that belong to no tensor: attention's softmax scale, the factor on residual branches."""

    attention: float
    residual: float


def multipliers(spec: RunSpec) -> Multipliers:
    """The site multipliers of a spec; attention is 1/√head_dim of the base, moved by the table to the target."""
    sites, ratios = table(spec.parametrization).sites, spec.site_ratios
    return Multipliers(
        attention=spec.hparams.attention_multiplier / math.sqrt(spec.base.head_dim) * sites[Site.ATTENTION](ratios),
        residual=spec.hparams.residual_multiplier * sites[Site.RESIDUAL](ratios),
    )


def settings(spec: RunSpec) -> tuple[Setting, ...]:
    """The resolved values of every tensor, in forward order; `Refused` where the table has no rule for a role."""
    return tuple(_setting(spec, tensor) for tensor in inventory(spec))


def _setting(spec: RunSpec, tensor: Tensor) -> Setting:
    hparams = spec.hparams
    rule = table(spec.parametrization).rule(tensor.role, spec.family)
    ratios: Ratios = tensor_ratios(spec, fan_in=tensor.fan_in, fan_out=tensor.fan_out, in_block=tensor.in_block)
    tunable = 1.0
    if tensor.role in (Role.READOUT, Role.TIED):
        tunable = hparams.logits_multiplier
    return Setting(
        tensor=tensor,
        init_std=_base_std(spec, tensor) * rule.init(ratios),
        multiplier=tunable * rule.multiplier(ratios),
        lr=hparams.lr * rule.lr(ratios),
        weight_decay=0.0 if tensor.role in UNDECAYED else hparams.weight_decay * rule.weight_decay(ratios),
        eps=None if rule.eps is None else hparams.eps * rule.eps(ratios),
    )


def _base_std(spec: RunSpec, tensor: Tensor) -> float:
    if tensor.zero or tensor.role in UNDECAYED:
        return 0.0
    if tensor.role is Role.EMBEDDING:
        return spec.hparams.embedding_std
    # A tied table reads out over the width, which is the fan_out of its lookup.
    fan_in = tensor.fan_out if tensor.role is Role.TIED else tensor.fan_in
    std = spec.hparams.init_gain / math.sqrt(getattr(spec.base, str(fan_in)))
    if tensor.writes_residual and spec.architecture.residual_init == "depth-scaled":
        std /= math.sqrt(2 * spec.shape.depth)  # GPT-2 §2.3
    return std


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tensors that share every value: one optimizer parameter group, one line of a recipe."""

    role: Role
    in_block: bool
    names: tuple[str, ...]
    init_std: float
    multiplier: float
    lr: float
    weight_decay: float
    eps: float | None


def groups(resolved: Iterable[Setting]) -> tuple[Group, ...]:
    """The partition of tensors by their values, in forward order; every tensor is in exactly one group."""
    shared: dict[tuple[Role, bool, float, float, float, float, float | None], list[str]] = {}
    for setting in resolved:
        tensor = setting.tensor
        values = (setting.init_std, setting.multiplier, setting.lr, setting.weight_decay, setting.eps)
        shared.setdefault((tensor.role, tensor.in_block, *values), []).append(tensor.name)
    return tuple(
        Group(
            role=role, in_block=in_block, names=tuple(names), init_std=init_std, multiplier=multiplier, lr=lr,
            weight_decay=weight_decay, eps=eps,
        )
        for (role, in_block, init_std, multiplier, lr, weight_decay, eps), names in shared.items()
    )  # fmt: skip


__all__ = ["Group", "Multipliers", "Setting", "groups", "multipliers", "settings"]
