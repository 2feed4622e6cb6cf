"""A spec → what templates may name, and the parameter groups as JSON.

Plain names are hyperparameters at the base, sizes and numbers of the run. NAME.ROLE are what the parametrization makes
of them for that role's tensors at the target, base.NAME.ROLE at the base, factor.SIZE a size over that of the base.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from fractions import Fraction

from scalelab.command.templates import Names, Value
from scalelab.models import count_params
from scalelab.parametrizations import table
from scalelab.parametrizations.table import Role
from scalelab.recipe import patterns
from scalelab.resolve import Group, Setting, betas, groups, multipliers, settings
from scalelab.spec import RunSpec, as_plain

QUANTITIES = ("lr", "min_lr", "lr_factor", "weight_decay", "eps", "init_std", "multiplier")


def names_of(spec: RunSpec) -> Names:
    """Every name, but those of the place where it is run."""
    values: dict[str, Value] = dict(_numbers(spec))
    finer: dict[str, tuple[str, ...]] = {}
    resolved = settings(spec)
    _grouped(spec, resolved, "", values, finer)
    if not table(spec.parametrization).unit_scaled:  # whose base is no network
        at_base = replace(spec, shape=spec.base, base_tokens=None, base_batch_tokens=None)
        _grouped(at_base, settings(at_base), "base.", values, finer)
    return Names(values=values, finer=finer)


def groups_json(spec: RunSpec, names: Names) -> str:
    """The parameter groups with their values, and every number that has a name."""
    found = [{**_described(group), "patterns": patterns(group)} for group in groups(settings(spec))]
    return json.dumps({"run": spec.fingerprint, "groups": found, "values": dict(names.values)}, indent=1) + "\n"


def _described(group: Group) -> dict[str, object]:
    return {each.name: getattr(group, each.name) for each in fields(group) if each.name != "names"}


def _numbers(spec: RunSpec) -> Iterator[tuple[str, Value]]:
    hparams, horizon, scales = spec.hparams, spec.horizon, spec.scales
    yield from vars(hparams).items()
    yield from zip(("beta1", "beta2"), betas(spec), strict=True)  # the table may move them
    yield from as_plain(horizon).items()
    run: dict[str, Value] = {
        "min_lr": hparams.lr * horizon.final_lr_ratio, "steps": horizon.steps, "warmup_steps": horizon.warmup_steps,
        "decay_start": horizon.decay_start, "decay_steps": horizon.steps - horizon.decay_start,
        "sequences": spec.sequences, "seed": spec.seed, "positive_seed": spec.seed + 1, "dtype": spec.dtype,
        "parametrization": spec.parametrization, "weight_decay_policy": spec.weight_decay_policy,
        "optimizer": spec.optimizer, "run": spec.fingerprint, "cost_flops": spec.cost_flops,
        "dataset": str(dict(spec.data.options).get("dataset", spec.data.name)),
        "params_non_embedding": count_params(spec).non_embedding, "params_total": count_params(spec).total,
    }  # fmt: skip
    yield from run.items()
    yield "model", spec.model
    yield from ((f"model.{name}", value) for name, value in as_plain(spec.architecture).items())
    for name, size in spec.shape.as_dict().items():
        yield name, size
        yield f"base.{name}", getattr(spec.base, name)
        yield f"factor.{name}", _number(spec.shape.ratio(spec.base, name))
    yield "head_dim", spec.shape.head_dim
    yield "base.head_dim", spec.base.head_dim
    yield "inverse_sqrt_head_dim", 1 / math.sqrt(spec.shape.head_dim)
    for name, ratio in (("head_dim", scales.head_dim), ("batch", scales.batch), ("tokens", scales.tokens),
                        ("params", scales.params)):  # fmt: skip
        yield f"factor.{name}", _number(ratio)


def _grouped(
    spec: RunSpec,
    resolved: tuple[Setting, ...],
    prefix: str,
    values: dict[str, Value],
    finer: dict[str, tuple[str, ...]],
) -> None:
    """Put in the values of each role: one name where its tensors agree, else one for each kind of tensor."""
    by_role: dict[Role, list[Setting]] = {}
    for setting in resolved:
        by_role.setdefault(setting.tensor.role, []).append(setting)
    for role, members in by_role.items():
        for quantity in QUANTITIES:
            name = f"{prefix}{quantity}.{role}"
            by_tensor = _by_tensor({each.tensor.name: _value(spec, each, quantity) for each in members})
            values.update((f"{name}.{tensor}", value) for tensor, value in by_tensor.items())
            if len(set(by_tensor.values())) == 1:
                values[name] = next(iter(by_tensor.values()))
            else:
                finer[name] = tuple(f"{name}.{tensor}" for tensor in by_tensor)
    sites, hparams = multipliers(spec), spec.hparams
    embedding = {each.multiplier for each in by_role.get(Role.EMBEDDING, ())} or {1.0}
    values[f"{prefix}multiplier.embedding"] = hparams.embedding_multiplier * max(embedding)
    values[f"{prefix}multiplier.attention"] = sites.attention
    values[f"{prefix}multiplier.residual"] = sites.residual
    readout = by_role.get(Role.READOUT) or by_role.get(Role.TIED)
    values[f"{prefix}multiplier.logits"] = readout[0].multiplier if readout else None


def _by_tensor(values: Mapping[str, Value]) -> dict[str, Value]:
    """Values by what a tensor is called in any block, mlp_down; where blocks differ with its own, blocks_0_mlp_down."""
    kinds: dict[str, set[Value]] = {}
    for name, value in values.items():
        kinds.setdefault(_kind(name), set()).add(value)
    return {(_kind(name) if len(kinds[_kind(name)]) == 1 else _word(name)): value for name, value in values.items()}


def _kind(name: str) -> str:
    return _word(re.sub(r"^blocks\.\d+\.", "", name))


def _word(name: str) -> str:
    return name.removesuffix(".weight").removesuffix(".gain").removesuffix(".bias").replace(".", "_")


def _value(spec: RunSpec, setting: Setting, quantity: str) -> Value:
    if quantity == "min_lr":
        return setting.lr * spec.horizon.final_lr_ratio
    if quantity == "lr_factor":
        return setting.lr / spec.hparams.lr
    found: float | None = getattr(setting, quantity)
    return found


def _number(ratio: Fraction) -> int | float:
    return int(ratio) if ratio.denominator == 1 else float(ratio)
