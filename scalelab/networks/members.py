"""Operations of one network or of a stack of M members: the same formula, and the same bits for a member in any stack.

A parameter of a stack has a leading dimension M, and so has its input. A product is one `bmm` over the members, which
on a CPU gives each the bits of its own `F.linear`; on a GPU another kernel may be chosen, and equality holds to
rounding.
"""

from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from scalelab.models.tensors import NORM_EPS

Constant: TypeAlias = float | Tensor  # a number, or one a member [M]

LARGE = 2**16  # elements of a weight, members included
NARROW = 16  # a side of a weight; below it (measured: to 10) the order of its gradient's sums depends on its layout


def times(x: Tensor, factor: Constant) -> Tensor:
    """x times a constant of its network, or of each member; x itself at 1.0, which saves a pass both ways.

    One multiplication is rounded once, so a member's bits do not depend on whether the others have the same factor.
    """
    return scaled_by(x, spread(factor, x))


def scaled_by(x: Tensor, scale: Constant) -> Tensor:
    """x · scale, which broadcasts over it, in x's precision; x itself at 1.0."""
    if isinstance(scale, Tensor):
        return x * scale.to(x.dtype)  # computed in the precision that it came in
    return x if scale == 1.0 else x * scale


def spread(constant: Constant, x: Tensor) -> Constant:
    """A constant that broadcasts over x: itself, or [M, 1, …] of [M]."""
    return constant.view(-1, *[1] * (x.dim() - 1)) if isinstance(constant, Tensor) else constant


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x […, I] by weight [O, I], or [M, …, I] by [M, O, I] → […, O], plus the bias [O] or [M, O]."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    rows = x.flatten(1, -2) if x.dim() > 2 else x.unsqueeze(1)
    if weight.numel() < LARGE and min(weight.shape[-2:]) >= NARROW:
        y = torch.bmm(rows, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
    else:
        y = cast(Tensor, _Product.apply(rows, weight, bias))  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], weight.shape[-2])


class _Product(torch.autograd.Function):
    """x Wᵀ + b over members. The weight's gradient comes in the weight's own layout, and need not be copied into it.

    For a small weight the copy costs less than Python does here, and a narrow one has `F.linear`'s bits only so: the
    way that is taken must not show in them, because it depends on the number of members.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.biased = inputs[2] is not None

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = torch.bmm(grad, weight) if ctx.needs_input_grad[0] else None
        return of_x, torch.bmm(grad.mT, x), grad.sum(dim=1) if ctx.biased else None


def looked_up(ids: Tensor, table: Tensor) -> Tensor:
    """Rows of table [V, D] for ids […], or of [M, V, D] for [M, …] → […, D]."""
    if table.dim() == 2:
        return F.embedding(ids, table)
    members, entries, width = table.shape
    return F.embedding(of_own(ids, members, entries), table.reshape(members * entries, width))


def of_own(ids: Tensor, members: int, entries: int) -> Tensor:
    """Ids [M, …] of M members, each below `entries`, as ids of the entries of all, one member's after another's."""
    first = torch.arange(members, device=ids.device) * entries
    return ids + first.view(-1, *[1] * (ids.dim() - 1))


def places(ids_BT: Tensor, count: int) -> Tensor:
    """0 … count−1 as the ids of one sequence, [1, count] or [M, 1, count], as those of `ids_BT` are."""
    return torch.arange(count, device=ids_BT.device).expand(*ids_BT.shape[:-2], 1, -1)


def across(vector: Tensor, x: Tensor) -> Tensor:
    """A vector [D], or [M, D] of a stack, so that it broadcasts over x […, D]."""
    return vector if vector.dim() == 1 else vector.view(len(vector), *[1] * (x.dim() - 2), -1)


def rms_normed(x: Tensor) -> Tensor:
    """x / √(mean(x²) + eps) over the last dimension."""
    if x.device.type != "cpu":
        return F.rms_norm(x, (x.shape[-1],), eps=NORM_EPS)
    y, _ = _RMSNorm.apply(x)  # type: ignore[no-untyped-call]
    return cast(Tensor, y)


class _RMSNorm(torch.autograd.Function):
    """`F.rms_norm` in fewer passes: on a CPU torch composes it of four operations and differentiates each."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        rate = (norm.square() / x.shape[-1] + NORM_EPS).rsqrt()
        return x * rate, rate

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        y, rate = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, y).unsqueeze(-1) / -y.shape[-1]
        return cast(Tensor, torch.addcmul(grad, y, along) * rate)
