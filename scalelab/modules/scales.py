"""What a pair of models scales by as a whole: head dimension, depth, experts, parameters, and the horizon as stated."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import prod

from torch import nn

from scalelab.errors import Refused
from scalelab.models.tensors import Dim
from scalelab.modules.pairing import Pairing
from scalelab.modules.parameters import Parameter
from scalelab.modules.roles import Claim
from scalelab.modules.sites import attention_like, head_dims
from scalelab.parametrizations.table import Parametrization, Role, Site
from scalelab.scale import Power, Ratios

TABLES_OF_TOKENS = (Role.EMBEDDING, Role.READOUT, Role.TIED)
Pair = tuple[int, int]


def scales_of(
    model: nn.Module,
    base: nn.Module,
    pairing: Pairing,
    parameters: Sequence[Parameter],
    claimed: Mapping[str, Claim],
    table: Parametrization,
    *,
    head_dim: Pair | None,
    depth: Pair | None,
    batch_tokens: Pair,
    tokens: Pair,
    mine: bool,
) -> tuple[Ratios, Dim | None]:
    """The ratios of the run, and the head dimension where it is known; `Refused` where one is needed and not seen."""
    dim = _dim(head_dim, "head_dim") or head_dims(model, base, pairing)
    name = attention_like(model)
    if dim is None and not mine and name is not None and not _is_root(table):
        raise Refused(f"head_dim of {name!r} is not to be seen: say head_dim=(base, target)")
    roles = {use.base_name: claimed[each.name].role for each in parameters for use in each.uses}
    mine_count = sum(prod(each.shape) for each in parameters if claimed[each.name].role not in TABLES_OF_TOKENS)
    count = sum(p.numel() for name, p in base.named_parameters() if roles.get(name) not in TABLES_OF_TOKENS)
    experts = {count.ratio for count in pairing.experts.values()} | {
        Fraction(each.shape[0], each.base[0])
        for each in parameters
        if claimed[each.name].role is Role.EXPERT and len(each.shape) == 3
    }
    ratios = Ratios(
        head_dim=Fraction(1) if dim is None else dim.ratio,
        depth=_depth(pairing, table, _dim(depth, "depth")),
        batch=_ratio(batch_tokens, "batch_tokens"),
        tokens=_ratio(tokens, "tokens"),
        experts=experts.pop() if len(experts) == 1 else Fraction(1),
        params=Fraction(mine_count, count) if mine_count and count else Fraction(1),
    )
    return ratios, dim


def _is_root(table: Parametrization) -> bool:
    """Whether the table's softmax scale is 1/√head_dim, the model's own."""
    return table.sites[Site.ATTENTION] ** 2 == Power(head_dim=-1)


def _depth(pairing: Pairing, table: Parametrization, stated: Dim | None) -> Fraction:
    ratios = {count.ratio for count in pairing.depths.values()}
    if stated is not None:
        return stated.ratio
    if len(ratios) <= 1:
        return ratios.pop() if ratios else Fraction(1)
    deep = Ratios(depth=Fraction(4))
    cells = [*table.sites.values(), *(cell for rule in table.rules.values() for cell in (rule.lr, rule.eps) if cell)]
    if all(cell(deep) == 1.0 for cell in cells):
        return Fraction(1)
    listed = ", ".join(f"{name} {count.base}→{count.size}" for name, count in pairing.depths.items())
    raise Refused(f"the depths differ by several ratios ({listed}): say depth=(base, target)")


def _dim(pair: Pair | None, name: str) -> Dim | None:
    if pair is None:
        return None
    _ratio(pair, name)
    return Dim(pair[1], pair[0])


def _ratio(pair: Pair, name: str) -> Fraction:
    if len(pair) != 2 or not all(isinstance(each, int) and each > 0 for each in pair):
        raise Refused(f"{name}={pair!r}: accepted is a pair of positive whole numbers, (base, target)")
    return Fraction(pair[1], pair[0])
