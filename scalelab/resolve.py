"""What a spec means for every tensor: the table's factors applied to the base values.

This is the one place where hyperparameters meet a parametrization; the trainer, the plan on screen, the recipe and the
exporters all read its result.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from scalelab.errors import Refused
from scalelab.hparams import Hparams
from scalelab.models import Tensor, inventory
from scalelab.optimizers import Optimizer, optimizer_kind
from scalelab.optimizers.factors import effective, shape_factor
from scalelab.parametrizations import table
from scalelab.parametrizations.decay import with_policy
from scalelab.parametrizations.sp import FAN_IN_INIT
from scalelab.parametrizations.table import UNDECAYED, Family, Role, Rule, Site
from scalelab.scale import Power, Ratios
from scalelab.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The resolved values of one tensor.

    `family` is that of the optimizer that trains it. `init_std` 0 means zeros for matrices and biases; gains start at
    1. `lr` is the peak learning rate, `weight_decay` torch's λ (a step decays by lr·λ), `eps` the family's eps or
    damping (None where its optimizer has none).
    """

    tensor: Tensor
    family: Family
    init_std: float
    multiplier: float
    lr: float
    weight_decay: float
    eps: float | None


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """The forward constants that belong to no tensor: attention's softmax scale, the factor on residual branches.

    Each is the site's, which table and shapes fix, times the tuned one of `Hparams`, in which trials may differ.
    """

    attention_site: float
    residual_site: float
    attention_tuned: float
    residual_tuned: float

    @property
    def attention(self) -> float:
        return self.attention_tuned * self.attention_site

    @property
    def residual(self) -> float:
        return self.residual_tuned * self.residual_site


def multipliers(spec: RunSpec) -> Multipliers:
    """The site multipliers of a spec; attention is 1/√head_dim of the base, moved by the table to the target."""
    sites, ratios = table(spec.parametrization).sites, spec.scales
    attention = sites[Site.ATTENTION](ratios) / math.sqrt(spec.base.head_dim)
    if spec.architecture.attention_scale == "sqrt":
        attention = 1 / math.sqrt(spec.shape.head_dim)
    return Multipliers(
        attention_site=attention,
        residual_site=sites[Site.RESIDUAL](ratios),
        attention_tuned=spec.hparams.attention_multiplier,
        residual_tuned=spec.hparams.residual_multiplier,
    )


def betas(spec: RunSpec) -> tuple[float, float]:
    """β1 and β2 of the run; `Refused` where the table's factor on 1−β leaves nothing of one."""
    return moved_betas(spec.hparams, table(spec.parametrization).one_minus_beta(spec.scales))


def moved_betas(hparams: Hparams, factor: float) -> tuple[float, float]:
    """β1 and β2 with 1−β multiplied by `factor`; `Refused` where that leaves nothing of one."""
    found = []
    for name in ("beta1", "beta2"):
        value = getattr(hparams, name)
        moved = value if factor == 1.0 else 1 - (1 - value) * factor
        if moved < 0:
            raise Refused(
                f"{name}={value:g} becomes {moved:.3g}: the table multiplies 1−β by {factor:g} from the base's batch"
                " and tokens; use a smaller batch, or a base nearer to it"
            )
        found.append(moved)
    return found[0], found[1]


def settings(spec: RunSpec, *, optimizer: str | None = None) -> tuple[Setting, ...]:
    """The resolved values of every tensor, in forward order; `Refused` where the table has no rule for a role.

    `optimizer` is the spec's, unless the run's second one is asked for (`Optimizer.then`).
    """
    kind, scales = optimizer_kind(optimizer or spec.optimizer), spec.scales
    if optimizer is None and kind.then is not None:
        settings(spec, optimizer=kind.then)  # refused before anything is trained, not when it takes over
    return tuple(_setting(spec, kind, tensor, tensor.ratios(scales)) for tensor in inventory(spec))


def moves_with_horizon(spec: RunSpec) -> bool:
    """Whether the rules have factors for batch or tokens against those of the base."""
    own = replace(spec, base_tokens=None, base_batch_tokens=None)
    return settings(replace(own, base_tokens=2 * spec.horizon.tokens)) != settings(own)


def _setting(spec: RunSpec, kind: Optimizer, tensor: Tensor, ratios: Ratios) -> Setting:
    hparams, family = spec.hparams, kind.family_of(tensor.role)
    lr, weight_decay, eps = base_values(hparams, kind, tensor)
    rule = table(spec.parametrization).rule(tensor.role, family)
    decayed = with_policy(rule, tensor.role, spec.weight_decay_policy)
    tunable = hparams.logits_multiplier if tensor.role in (Role.READOUT, Role.TIED) else 1.0
    return Setting(
        tensor=tensor,
        family=family,
        init_std=_base_std(spec, tensor) * init_cell(spec, tensor.role, rule)(ratios),
        multiplier=tunable * rule.multiplier(ratios),
        lr=lr * rule.lr(ratios),
        weight_decay=0.0 if decayed is None else weight_decay * decayed.weight_decay(ratios),
        eps=None if rule.eps is None or not kind.eps else eps * rule.eps(ratios),
    )


def base_values(hparams: Hparams, kind: Optimizer, tensor: Tensor) -> tuple[float, float, float]:
    """Learning rate, weight decay and eps (or damping) of a tensor at the base, before any table moves them.

    A shape factor is on the update alone, not on the decay, as in published Muons.
    """
    family = kind.family_of(tensor.role)
    lr, weight_decay = hparams.lr, hparams.weight_decay
    if family is Family.ADAM:
        return lr * hparams.handed_lr_factor if kind.hands_over else lr, weight_decay, hparams.eps
    if family is Family.MUON and tensor.fan_in is not None:
        factor = shape_factor(hparams.shape_factor, tensor.fan_out.base, tensor.fan_in.base)
        return *effective(lr, weight_decay, factor), hparams.damping
    return lr, weight_decay, hparams.damping


def init_cell(spec: RunSpec, role: Role, rule: Rule) -> Power:
    """How an init standard deviation moves: by the table's rule, unless the architecture holds SP's for the readout."""
    if role is Role.READOUT and spec.architecture.readout_init == "fan_in":
        return FAN_IN_INIT
    return rule.init


def _base_std(spec: RunSpec, tensor: Tensor) -> float:
    if tensor.zero or tensor.role in UNDECAYED:
        return 0.0
    if tensor.role is Role.EMBEDDING and not spec.architecture.tied_head:
        return spec.hparams.embedding_std
    # A tied table reads out over the width, which is the fan_out of its lookup; positions beside it start as it does.
    fan_in = tensor.fan_out if tensor.role in (Role.TIED, Role.EMBEDDING) else tensor.fan_in
    assert fan_in is not None
    std = spec.hparams.init_gain / math.sqrt(fan_in.base)
    if tensor.writes_residual and spec.architecture.residual_init == "depth-scaled":
        std /= math.sqrt(2 * spec.shape.depth)  # GPT-2 §2.3
    return std


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tensors that share every value: one optimizer parameter group, one line of a recipe."""

    role: Role
    family: Family
    in_block: bool
    names: tuple[str, ...]
    init_std: float
    multiplier: float
    lr: float
    weight_decay: float
    eps: float | None


def groups(resolved: Iterable[Setting]) -> tuple[Group, ...]:
    """The partition of tensors by their values, in forward order; every tensor is in exactly one group."""
    shared: dict[tuple[Role, Family, bool, float, float, float, float, float | None], list[str]] = {}
    for setting in resolved:
        tensor = setting.tensor
        values = (setting.init_std, setting.multiplier, setting.lr, setting.weight_decay, setting.eps)
        shared.setdefault((tensor.role, setting.family, tensor.in_block, *values), []).append(tensor.name)
    return tuple(
        Group(
            role=role, family=family, in_block=in_block, names=tuple(names), init_std=init_std, multiplier=multiplier,
            lr=lr, weight_decay=weight_decay, eps=eps,
        )
        for (role, family, in_block, init_std, multiplier, lr, weight_decay, eps), names in shared.items()
    )  # fmt: skip


__all__ = [
    "Group", "Multipliers", "Setting", "base_values", "betas", "groups", "init_cell", "moved_betas",
    "moves_with_horizon", "multipliers", "settings",
]  # fmt: skip
