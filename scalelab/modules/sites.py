"""The multipliers that belong to no parameter: on attention logits and on residual branches.

A foreign model has its own softmax scale, 1/√head_dim (F.scaled_dot_product_attention, every published transformer).
What a table asks for beyond that goes on the queries. What a residual branch is multiplied by goes on the modules that
write to the residual stream. Both are named by the caller: a forward pass cannot be seen from its parameters.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from scalelab.errors import Refused
from scalelab.models.tensors import Dim
from scalelab.modules.layouts import classes, layout_of
from scalelab.modules.pairing import Pairing
from scalelab.modules.parameters import modules_matching
from scalelab.parametrizations.table import Parametrization, Site
from scalelab.scale import Ratios

HEAD_DIMS = ("head_dim", "attention_head_size")  # what attention modules call it: torch, transformers, scalelab
FUSED = ("qkv", "c_attn", "in_proj", "query_key_value")


@dataclass(frozen=True, kw_only=True)
class Sites:
    """`attention`: the softmax scale, relative to the base's; `query`: the part of it that 1/√head_dim leaves over.

    `residual`: the factor on every residual branch. `softmax_scale` is the whole number, where head_dim is known.
    """

    attention: float
    query: float
    residual: float
    softmax_scale: float | None


def head_dims(model: nn.Module, base: nn.Module, pairing: Pairing) -> Dim | None:
    """The head dimension of both, as their attention modules have it; None where none, or not one, is seen."""
    mine, theirs = dict(model.named_modules()), dict(base.named_modules())
    found = {
        Dim(getattr(mine[name], attribute), getattr(theirs[other], attribute))
        for name, other in pairing.modules.items()
        for attribute in HEAD_DIMS
        if name in mine and other in theirs and isinstance(getattr(mine[name], attribute, None), int)
    }
    return found.pop() if len(found) == 1 else None


def attention_like(model: nn.Module) -> str | None:
    """The name of a module whose class is called attention."""
    return next((n for n, m in model.named_modules() if any("attention" in c.lower() for c in classes(m)[:1])), None)


def sites(table: Parametrization, scales: Ratios, head_dim: Dim | None) -> Sites:
    """The resolved numbers."""
    attention = table.sites[Site.ATTENTION](scales)
    return Sites(
        attention=attention,
        query=attention * math.sqrt(scales.head_dim),
        residual=table.sites[Site.RESIDUAL](scales),
        softmax_scale=None if head_dim is None else attention / math.sqrt(head_dim.base),
    )


def queries(
    model: nn.Module, found: Sites, query: Sequence[str], attention: Literal["table", "mine"]
) -> list[nn.Module]:
    """The modules whose outputs take what is left of the attention factor; none where nothing is left.

    Raises:
        Refused: where there is something to scale and nothing was named, or a module that cannot take it.
    """
    modules = modules_matching(model, query, "query")
    if attention == "mine" or math.isclose(found.query, 1.0, rel_tol=1e-12):
        return []
    if not modules:
        scale = f" (a softmax scale of {found.softmax_scale:g})" if found.softmax_scale else ""
        raise Refused(
            f"the table multiplies attention logits by {found.query:g} over 1/√head_dim{scale}: name the modules that"
            " make the queries, query=('*.q_proj',), or set the scale in the model and say attention='mine'"
        )
    for name, module in modules.items():
        leaf, parent = name.rpartition(".")[2], model.get_submodule(name.rpartition(".")[0])
        if any(part in leaf for part in FUSED) or module._parameters.get("weight") is None:
            raise Refused(f"query={name!r} makes more than the queries: set the scale in the model, attention='mine'")
        norms = [child for child in parent._modules if child.startswith("q") and "norm" in child]
        if layout_of(module) and norms:
            raise Refused(f"query={name!r} is normalised after: name the norm, query=('*.{norms[0]}',)")
    return list(modules.values())


def branches(
    model: nn.Module, found: Sites, residual: Sequence[str], pairing: Pairing, *, own_init: bool
) -> list[nn.Module]:
    """The modules whose outputs take the residual factor; none where it is 1.

    Raises:
        Refused: where there is a factor and a block without such a module, one that is never called, or an init that
            has the depth in already.
    """
    modules = modules_matching(model, residual, "residual")
    if found.residual == 1.0:
        return []
    for block in pairing.deepened:
        outer = any(other.startswith(f"{block}.") for other in pairing.deepened)
        if not outer and not any(f"{name}.".startswith(f"{block}.") for name in modules):
            raise Refused(
                f"the table multiplies residual branches by {found.residual:g} and nothing in {block!r} is named that"
                " writes to the residual stream: residual=('*.attn.c_proj', '*.mlp.c_proj')"
            )
    for name, module in modules.items():
        if "NonDynamicallyQuantizableLinear" in classes(module):
            raise Refused(f"residual={name!r} is never called, its attention reads its weight: name the attention")
    if own_init and (ratio := depth_scaled(model, modules, pairing)) is not None:
        raise Refused(
            f"{next(iter(modules))} starts at {ratio:.3g} of its siblings, 1/√(2·depth): the table scales the branches"
            f" with depth already, by {found.residual:g}; initialise it as the others"
        )
    return list(modules.values())


def depth_scaled(model: nn.Module, modules: dict[str, nn.Module], pairing: Pairing) -> float | None:
    """The std of the branches' last matrices over their siblings', where that is GPT-2's 1/√(2·depth), else None."""
    depths = {count.size for count in pairing.depths.values()} or {_length(model, pairing)}
    named = {name: _std(module) for name, module in model.named_modules() if pairing.in_block(f"{name}.weight")}
    last = [std for name, std in named.items() if std and name in modules]
    others = [std for name, std in named.items() if std and name not in modules]
    if not last or not others:
        return None
    usual = statistics.median(others)
    for depth in depths:
        # Of all of them: a fan-in init makes the wide ones smaller too, but not those that map width to width.
        if all(math.isclose(std / usual, 1 / math.sqrt(2 * depth), rel_tol=0.1) for std in last):
            return statistics.mean(last) / usual
    return None


def _length(model: nn.Module, pairing: Pairing) -> int:
    outer = [b for b in pairing.blocks if not any(b.startswith(f"{other}.") for other in pairing.blocks)]
    return len(outer) or 1


def _std(module: nn.Module) -> float | None:
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim < 2 or weight.is_meta:
        return None
    with torch.no_grad():
        return float(weight.float().square().mean().sqrt())
