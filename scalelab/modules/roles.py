"""The role of each parameter, from the axes along which it grows; what cannot be seen is asked for, never guessed.

Matrices: both fans grow, HIDDEN; only fan_out, EMBEDDING; only fan_in, READOUT outside the blocks. Inside them a map
from the width to something fixed is a ROUTER where its name says so, else HIDDEN with a fan_out of ratio 1: keys and
values of fixed width (multi-query attention). Tensor Programs V would have the routers' 1/fan_in on those too. Under
Adam their updates are the same either way; what HIDDEN keeps is the size of keys and values at the start, which the
other lets vanish with width. `roles={"*.k_proj.weight": "router"}` has it the other way.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from scalelab.errors import Refused, unknown
from scalelab.models.tensors import Dim
from scalelab.modules.layouts import LOOKUPS, classes, fans, layout_of, parse
from scalelab.modules.parameters import Parameter, Use, matching
from scalelab.parametrizations.table import Role

BIAS = re.compile(r"(.*_)?bias|bias_\w+|beta")
GAIN = re.compile(r"gain|scale|gamma\w*|lambda\w*|weight_g|g")
ADDED = re.compile(r"(^|[._])(pos|position|positional|cls|class|token|embed|embedding|query|latent|register)s?([._]|$)")
HINT = "name it in roles={'pattern': role}, role one of " + ", ".join(Role)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a parameter is: its role, and its fans (vectors have no fan_in)."""

    role: Role
    fan_out: Dim
    fan_in: Dim | None = None
    note: str | None = None


def stated_for(parameters: list[Parameter], patterns: Mapping[str, str], option: str) -> dict[str, str]:
    """What the patterns say of each parameter, by name.

    Raises:
        Refused: where a pattern claims no parameter, or two claim one and differ.
    """
    said: dict[str, tuple[str, str]] = {}
    for pattern, value in patterns.items():
        claimed = [each for each in parameters if matching(pattern, each.matched)]
        if not claimed:
            raise Refused(f"{option} pattern {pattern!r} claims no parameter")
        for each in claimed:
            other, before = said.setdefault(each.name, (pattern, value))
            if before != value:
                raise Refused(f"{each.name} is claimed by {other!r} as {before} and by {pattern!r} as {value}")
    return {name: value for name, (_, value) in said.items()}


def claims(
    parameters: list[Parameter], roles: Mapping[str, Role | str], layouts: Mapping[str, str], *, blind: bool
) -> dict[str, Claim]:
    """The claim on every parameter, by name. `blind` says that no member of another width was given.

    Raises:
        Refused: on a tensor whose role cannot be seen, naming it and the choices, and what `stated_for` refuses.
    """
    for role in roles.values():
        if role not in set(Role):
            raise unknown("role", role, Role)
    said = stated_for(parameters, {pattern: str(role) for pattern, role in roles.items()}, "roles")
    laid = stated_for(parameters, layouts, "layouts")
    return {
        each.name: _claim(each, Role(said[each.name]) if each.name in said else None, laid.get(each.name), blind)
        for each in parameters
    }


def _claim(each: Parameter, stated: Role | None, layout: str | None, blind: bool) -> Claim:
    found = [_use(each, use, stated, layout, blind) for use in each.uses]
    first, roles = found[0], {claim.role for claim in found}
    if len(roles) == 1:
        return first
    if roles == {Role.EMBEDDING, Role.READOUT} or (blind and Role.EMBEDDING in roles and len(roles) == 2):
        embedding = next(claim for claim in found if claim.role is Role.EMBEDDING)
        return Claim(role=Role.TIED, fan_in=embedding.fan_in, fan_out=embedding.fan_out)
    uses = ", ".join(f"{use.name} ({claim.role})" for use, claim in zip(each.uses, found, strict=True))
    raise Refused(f"{each.name} is shared by uses of different roles: {uses}; {HINT}")


def _use(each: Parameter, use: Use, stated: Role | None, layout: str | None, blind: bool) -> Claim:
    layout = layout or layout_of(use.owner)
    vector = _vector(each, use, known=layout is not None and use.leaf == "weight")
    if stated in (Role.GAIN, Role.BIAS, Role.SCALAR) or (stated is None and vector is not None):
        role = stated or vector
        assert role is not None
        return Claim(role=role, fan_out=Dim(each.shape[-1], each.base[-1]) if each.shape else Dim(1, 1))
    words = parse(layout, each.shape, each.name) if layout else _words(each, use, stated)
    fan_in, fan_out = fans(words, each.shape, each.base)
    into = any(grows for grows, word in zip(each.grows, words, strict=True) if word in ("in", "kernel"))
    out = any(grows for grows, word in zip(each.grows, words, strict=True) if word == "out")
    if stated is not None:
        return Claim(role=stated, fan_in=fan_in, fan_out=fan_out)
    if into and layout is not None and any(kind in LOOKUPS for kind in classes(use.owner)):
        raise Refused(
            f"{each.name} has {fan_in.size} entries, in the base {fan_in.base}: no table scales a vocabulary or a"
            " context, build both with the same"
        )
    role, note = _matrix(use, into=into, out=out, stack="stack" in words, blind=blind)
    return Claim(role=role, fan_in=None if role is Role.SCALAR else fan_in, fan_out=fan_out, note=note)


def _vector(each: Parameter, use: Use, *, known: bool) -> Role | None:
    """GAIN, BIAS or SCALAR for what is no matrix, None for the rest."""
    kinds, shape = classes(use.owner), [size for size in each.shape if size != 1 or len(each.shape) == 1]
    if not known and BIAS.fullmatch(use.leaf):
        return Role.BIAS
    if len(each.shape) <= 1 and (GAIN.fullmatch(use.leaf) or any("Norm" in kind or kind == "PReLU" for kind in kinds)):
        return Role.GAIN if each.shape not in ((), (1,)) else Role.SCALAR
    if not any(each.grows) and len(shape) <= 1:
        return Role.SCALAR
    if len(each.shape) == 1:
        raise Refused(f"{each.name}, of shape {each.shape} in {kinds[0]}, is a vector of unknown use: {HINT}")
    return None


def _words(each: Parameter, use: Use, stated: Role | None) -> tuple[str, ...]:
    """The layout of a parameter whose module is of no known class, where its role or its shape leaves no doubt."""
    grown = [axis for axis, grows in enumerate(each.grows) if grows]
    last, rank = len(each.shape) - 1, len(each.shape)
    if len(grown) == 1 and (stated in (Role.EMBEDDING, Role.TIED) or _added(each, use, grown[0] == last)):
        return tuple("out" if axis == grown[0] else "in" for axis in range(rank))
    if len(grown) == 1 and (stated in (Role.READOUT, Role.ROUTER) or _router(use)):
        return tuple("in" if axis == grown[0] else "out" for axis in range(rank))
    ratios = {Dim(size, base).ratio for size, base in zip(each.shape[-2:], each.base[-2:], strict=True)}
    if len(ratios) == 1 and (rank == 2 or (rank == 3 and (_expert(use) or stated is Role.EXPERT))):
        return ("stack", "out", "in")[-rank:]  # which is which makes no difference to a ratio
    raise Refused(
        f"{each.name}, of shape {each.shape} against {each.base} in {classes(use.owner)[0]}, does not show which axis"
        f" is its fan_in: say layouts={{{each.name!r}: 'out in'}}, a word for each axis (in, out, stack, kernel), or"
        f" {HINT}"
    )


def _added(each: Parameter, use: Use, last: bool) -> bool:
    """Whether it is a table that is added or prepended: positions, class tokens, [1, T, D] or named so."""
    return last and (each.shape[0] == each.base[0] == 1 or ADDED.search(use.leaf) is not None)


def _matrix(use: Use, *, into: bool, out: bool, stack: bool, blind: bool) -> tuple[Role, str | None]:
    expert = stack or _expert(use)
    if expert and (into or out or blind):
        return Role.EXPERT, None
    if blind and not (into or out):  # no other width to see it by: where it stands must do
        lookup = any(kind.startswith("Embedding") for kind in classes(use.owner))
        role = Role.ROUTER if _router(use) else Role.EMBEDDING if lookup else Role.HIDDEN
        unseen = None if lookup or use.in_block else "taken for hidden: give `wider` to see which dimensions grow"
        return role, unseen
    if into and _router(use):  # to experts whose number may grow, but not with the width
        return Role.ROUTER, None
    if into and out:
        return Role.HIDDEN, None
    if out:
        deep = "maps something fixed to the width inside a block: an embedding's rule, which has no depth factor"
        return Role.EMBEDDING, deep if use.in_block else None
    if into and use.in_block:
        return Role.HIDDEN, "maps the width to something fixed inside a block: hidden, with m_out = 1"
    return (Role.READOUT, None) if into else (Role.SCALAR, "no dimension grows: a finite matrix, not decayed")


def _router(use: Use) -> bool:
    parts = use.name.split(".")[:-1]
    beside_experts = any("expert" in sibling for sibling in use.siblings)  # SwiGLU has a gate too
    return any("router" in part for part in parts[-2:]) or (beside_experts and "gate" in parts[-1])


def _expert(use: Use) -> bool:
    path = use.name.split(".")
    named = any("expert" in part and "shared" not in part and "gate" not in part for part in path)
    return named or any("Expert" in kind for kind in classes(use.owner))
