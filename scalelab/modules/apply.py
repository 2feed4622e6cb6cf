"""`parametrize`: a table of transfer rules on a model of any class, from its shapes and those of its base."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from scalelab.errors import Refused, unknown
from scalelab.models.tensors import Tensor
from scalelab.modules.found import Parametrized
from scalelab.modules.hooks import mark, refuse_second, scale_input, scale_output
from scalelab.modules.parameters import Built, Parameter, built, modules_matching, parameters
from scalelab.modules.places import places
from scalelab.modules.roles import Claim, claims
from scalelab.modules.scales import scales_of
from scalelab.modules.sites import branches, queries, sites
from scalelab.modules.start import Start, Std, Weighed, depth_scaled, rms, start
from scalelab.optimizers import Optimizer, optimizer_kind
from scalelab.parametrizations import table as registered
from scalelab.parametrizations.decay import with_policy
from scalelab.parametrizations.table import Parametrization, Role, Rule
from scalelab.resolve import Setting
from scalelab.scale import Ratios

Pair = tuple[int, int]


def parametrize(
    model: nn.Module,
    table: str | Parametrization,
    *,
    base: Built,
    optimizer: str = "adamw",
    roles: Mapping[str, Role | str] | None = None,
    layouts: Mapping[str, str] | None = None,
    wider: Built | None = None,
    residual: Sequence[str] = (),
    query: Sequence[str] = (),
    attention: Literal["table", "mine"] = "table",
    linear: Sequence[str] = (),
    head_dim: Pair | None = None,
    depth: Pair | None = None,
    batch_tokens: Pair = (1, 1),
    tokens: Pair = (1, 1),
    init: Literal["rescale", "keep"] = "rescale",
    std: Std = None,
    fold: bool = False,
    allow_same: bool = False,
    weight_decay_policy: str = "table",
) -> Parametrized:
    """Apply a table to a model: rescale its init, hang its forward multipliers on its modules, find its settings.

    Call it on the bare model, before DDP, FSDP2 or torch.compile (FSDP2 may come first). Afterwards the model is an
    ordinary module that trains with ordinary optimizers: `found.groups(lr=…)`, before or after wrapping. Where anything
    is refused the model is as it was.

    Args:
        model: the target. Changed in place: values of parameters (`init`), hooks on modules.
        table: the name of a parametrization, or one.
        base: the model at which hyperparameters are stated: a module, or its builder, which is called on the meta
            device. Its shapes are read, and for `init="rescale"` its values.
        optimizer: a name in `scalelab.optimizers.OPTIMIZERS`; it decides whose exponents each parameter follows.
        roles: {pattern: role} where shapes do not show it; patterns are fnmatch's on parameter names.
        layouts: {pattern: "out in"}: a word for each axis of a parameter, in, out, stack or kernel.
        wider: another member of the family, to tell which dimensions grow where base and model have the same.
        residual: patterns of the modules that write to the residual stream, for tables that scale branches.
        query: patterns of the modules that make the queries, for tables whose softmax scale is not 1/√head_dim.
        attention: "mine" where the model's softmax scale is set to `found.sites.softmax_scale` by the caller.
        linear: patterns of modules of unknown classes that are linear in their first input and may have it scaled.
        head_dim, depth, batch_tokens, tokens: (base, target); the first two are read off the models where they can be.
        init: "rescale" the model's own (see `modules.start`), or "keep" what is there. Frozen parameters are kept.
        std: the std at the base, a number or {pattern: number}, instead of measuring it there.
        fold: the equivalent table without multipliers.
        allow_same: a base of the same sizes is meant.
        weight_decay_policy: a name in `scalelab.parametrizations.POLICIES`.

    Raises:
        Refused: in one line, whatever cannot be seen, is contradictory, or has no place.
    """
    rules, kind = table if isinstance(table, Parametrization) else registered(table), optimizer_kind(optimizer)
    _check(rules, attention, init)
    refuse_second(model)
    small, other = built(base), None if wider is None else built(wider)
    found, pairing = parameters(model, small, other)
    blind = not any(any(each.grows) for each in found)
    if blind and not (pairing.depths or allow_same):
        raise Refused("no dimension differs between model and base: did you build both from the same config?")
    if blind and kind.hands_over:
        raise Refused(
            f"optimizer {optimizer!r} treats matrices by their role, which one width does not show: give wider"
        )
    claimed = claims(found, roles or {}, layouts or {}, blind=blind)
    scales, dim = scales_of(
        model, small, pairing, found, claimed, rules, head_dim=head_dim, depth=depth, batch_tokens=batch_tokens,
        tokens=tokens, mine=attention == "mine",
    )  # fmt: skip
    at_sites = sites(rules, scales, dim)
    rules = rules.folded() if fold else rules
    writers = branches(model, at_sites, residual, pairing, own_init=not any(p.value.is_meta for p in found))
    asking = queries(model, at_sites, query, attention)
    if fold and (writers or asking):
        raise Refused("fold=True leaves no multipliers, and this table has them on residual branches or queries")
    writing = {id(module) for module in writers}
    settings, factors = [], []
    based = dict(small.named_parameters(remove_duplicate=False))
    weighed = {
        each.name: Weighed(parameter=each, claim=claimed[each.name], base=based[each.uses[0].base_name])
        for each in found
    }
    lengths = set(pairing.depths.values())
    deep = depth_scaled(list(weighed.values()), lengths.pop() if len(lengths) == 1 else None)
    for each in found:
        claim = claimed[each.name]
        tensor = _tensor(each, claim, writing)
        rule = _rule(rules, kind, each, claim.role)
        ratios = tensor.ratios(scales)
        if init == "rescale" and each.value.requires_grad:  # what is frozen is given
            weight = weighed.get(f"{each.name.rpartition('.')[0]}.weight") if claim.role is Role.BIAS else None
            own = float(scales.depth) ** -0.5 if each.name in deep else 1.0
            begun = start(weighed[each.name], rule, ratios, std, weight=weight, deep=own)
        else:
            begun = Start(1.0, float("nan") if each.value.is_meta else rms(each.value))
        factors.append(begun.factor)
        settings.append(_setting(kind, tensor, rule, ratios, begun, weight_decay_policy))
    hooks = places(model, found, claimed, settings, modules_matching(model, linear, "linear"))

    # Everything is known and nothing was refused: only now is the model changed.
    with torch.no_grad():
        for each, factor in zip(found, factors, strict=True):
            if factor != 1.0:
                each.value.mul_(factor)
    for module, factor, on_output in hooks:
        (scale_output if on_output else scale_input)(module, factor)
    for module in writers:
        scale_output(module, at_sites.residual)
    for module in asking:
        scale_output(module, at_sites.query)
    mark(model, rules.name)
    return Parametrized(
        model=model, parametrization=rules, optimizer_name=optimizer, settings=tuple(settings), scales=scales,
        sites=at_sites, notes=_notes(found, claimed),
    )  # fmt: skip


def _check(rules: Parametrization, attention: str, init: str) -> None:
    if rules.unit_scaled:
        raise Refused(f"{rules.name!r} needs a network of unit-scaled operations: model.unit_scaled of scalelab's own")
    if attention not in ("table", "mine"):
        raise unknown("attention", attention, ("table", "mine"))
    if init not in ("rescale", "keep"):
        raise unknown("init", init, ("rescale", "keep"))


def _tensor(each: Parameter, claim: Claim, writing: set[int]) -> Tensor:
    return Tensor(
        name=each.name, role=claim.role, stored=each.shape, fan_in=claim.fan_in, fan_out=claim.fan_out,
        in_block=any(use.in_block for use in each.uses),
        writes_residual=any(id(use.owner) in writing for use in each.uses),
    )  # fmt: skip


def _rule(rules: Parametrization, kind: Optimizer, each: Parameter, role: Role) -> Rule:
    try:
        return rules.rule(role, kind.family_of(role))
    except Refused as refused:
        raise Refused(f"{each.name} is {role}: {refused}") from None


def _setting(kind: Optimizer, tensor: Tensor, rule: Rule, ratios: Ratios, begun: Start, policy: str) -> Setting:
    decayed = with_policy(rule, tensor.role, policy)
    return Setting(
        tensor=tensor,
        family=kind.family_of(tensor.role),
        init_std=begun.std,
        multiplier=rule.multiplier(ratios),
        lr=rule.lr(ratios),
        weight_decay=0.0 if decayed is None else decayed.weight_decay(ratios),
        eps=None if rule.eps is None or not kind.eps else rule.eps(ratios),
    )


def _notes(found: Sequence[Parameter], claimed: Mapping[str, Claim]) -> tuple[str, ...]:
    notes: dict[str, None] = {}
    for each in found:
        if note := claimed[each.name].note:
            name = ".".join("*" if part.isdigit() else part for part in each.name.split("."))
            notes[f"{name}: {note}"] = None
    if not any(claim.role in (Role.READOUT, Role.TIED) for claim in claimed.values()):
        notes["no readout was found: where the embedding is used as one in the code, say roles={…: 'tied'}"] = None
    return tuple(notes)
