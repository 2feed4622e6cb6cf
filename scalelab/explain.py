"""A configuration, explained: every value of every parameter group beside its base and the rule between them.

It reads what `resolve` resolves, at any size: a model is an inventory of names and sizes here, nothing is allocated.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from scalelab.derivations import Value, of_betas, of_setting, of_sites
from scalelab.models import MODELS, count_flops_per_token, count_params
from scalelab.parametrizations import table
from scalelab.parametrizations.decay import POLICIES
from scalelab.parametrizations.table import Family, Role
from scalelab.recipe import patterns
from scalelab.resolve import Setting, groups, settings
from scalelab.shape import Shape
from scalelab.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class Part:
    """Tensors of one name, block numbers aside, and of one stored shape."""

    pattern: str
    stored: tuple[int, ...]
    tensors: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """Tensors that share every value and come to it by the same ratios."""

    role: Role
    family: Family
    in_block: bool
    parts: tuple[Part, ...]
    params: int
    ratios: Mapping[str, Fraction]
    values: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class Size:
    """One size of the run, at the target and at its base."""

    name: str
    target: int
    base: int


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A run, resolved and explained. `then` holds the lines of the optimizer that takes over, where one does."""

    parametrization: str
    title: str
    source: str
    model: str
    optimizer: str
    takes_over: str | None
    policy: str
    unit_scaled: bool
    sizes: tuple[Size, ...]
    lines: tuple[Line, ...]
    then: tuple[Line, ...]
    sites: tuple[Value, ...]
    betas: tuple[Value, ...]
    params: Mapping[str, int]
    flops_per_token: int
    cost_flops: int
    notes: tuple[str, ...]


def with_vocab(spec: RunSpec, vocab: int) -> RunSpec:
    """The spec on a corpus of another vocabulary, for one that is not on this machine."""
    base = spec.base if spec.base == Shape.unit() else replace(spec.base, vocab=vocab)
    return replace(
        spec, shape=replace(spec.shape, vocab=vocab), base=base, data=replace(spec.data, vocab=vocab)
    )  # fmt: skip


def explain(spec: RunSpec, *, vocab: int | None = None, each: bool = False) -> Explanation:
    """What a spec means and why; `vocab` stands in for its corpus' own, `each` keeps every parameter apart.

    Raises:
        Refused: where the table has no rule for a role.
    """
    spec = spec if vocab is None else with_vocab(spec, vocab)
    rules, counted = table(spec.parametrization), count_params(spec)
    then = () if spec.kind.then is None else _lines(spec, settings(spec, optimizer=spec.kind.then), each=each)
    return Explanation(
        parametrization=rules.name,
        title=rules.title,
        source=rules.source,
        model=spec.model,
        optimizer=spec.optimizer,
        takes_over=spec.kind.then,
        policy=f"{spec.weight_decay_policy}: {POLICIES[spec.weight_decay_policy].title}",
        unit_scaled=rules.unit_scaled,
        sizes=tuple(_sizes(spec)),
        lines=_lines(spec, settings(spec), each=each),
        then=then,
        sites=tuple(of_sites(spec)),
        betas=tuple(of_betas(spec)),
        params={**{name: getattr(counted, name) for name in ("embedding", "readout", "matrices", "vectors", "active",
                                                            "non_embedding", "total")}},
        flops_per_token=count_flops_per_token(spec).six_n_attention,
        cost_flops=spec.cost_flops,
        notes=rules.notes,
    )  # fmt: skip


def as_plain(found: Explanation) -> dict[str, Any]:
    """JSON types; ratios as exact fractions in text."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(found), default=str))
    return plain


def _lines(spec: RunSpec, resolved: Sequence[Setting], *, each: bool) -> tuple[Line, ...]:
    shared: dict[object, list[Setting]] = {}
    explained: dict[object, tuple[dict[str, Fraction], tuple[Value, ...]]] = {}
    for setting in resolved:
        tensor = setting.tensor
        ratios, values = of_setting(spec, setting)
        key = (tensor.role, setting.family, tensor.in_block, tuple(ratios.items()), values, each and tensor.name)
        shared.setdefault(key, []).append(setting)
        explained[key] = ratios, values
    return tuple(
        Line(
            role=members[0].tensor.role,
            family=members[0].family,
            in_block=members[0].tensor.in_block,
            parts=_parts(members, each=each),
            params=sum(member.tensor.numel for member in members),
            ratios=explained[key][0],
            values=explained[key][1],
        )
        for key, members in shared.items()
    )


def _parts(members: Iterable[Setting], *, each: bool) -> tuple[Part, ...]:
    counted: dict[tuple[str, tuple[int, ...]], int] = {}
    for member in members:
        (name,) = (member.tensor.name,) if each else patterns(groups([member])[0])
        counted[name, member.tensor.stored] = counted.get((name, member.tensor.stored), 0) + 1
    return tuple(Part(pattern=name, stored=stored, tensors=count) for (name, stored), count in counted.items())


def _sizes(spec: RunSpec) -> Iterable[Size]:
    names = ["width", "depth", "ffn", "vocab", "context"]
    if MODELS[spec.model].attention:
        names[2:2] = ["heads", "kv_heads", "head_dim"]
    if spec.shape.experts > 1:
        names += ["experts", "top_k"]
    for name in names:
        yield Size(name=name, target=getattr(spec.shape, name), base=getattr(spec.base, name))
    horizon = spec.horizon
    yield Size(name="batch_tokens", target=horizon.batch_tokens, base=spec.base_batch_tokens or horizon.batch_tokens)
    yield Size(name="tokens", target=horizon.tokens, base=spec.base_tokens or horizon.tokens)
