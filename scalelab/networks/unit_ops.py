"""The unit-scaled operations of u-muP (arXiv:2407.17465; Unit Scaling, arXiv:2303.11257): pure functions on tensors.

Fed with independent unit-variance inputs, weights and output gradients, each op returns a unit-variance output and,
where its docstring does not say otherwise, unit-variance gradients. The formulas are those of the `unit_scaling`
package 0.3.5, which the tests take as their oracle; the file and function are named at each op.

Why not the package itself. `torch.compile(fullgraph=True)`, deepcopy and `functional_call` work with it, but its
`_ScaledGrad` has no `setup_context`, so `torch.func.vmap` and `grad` raise; weights with a leading member dimension,
tensor-valued multipliers, grouped key/value heads and sequences of one token raise too; and it rounds a backward scale
to the gradient's dtype, which in bfloat16 puts up to 0.4 % on every gradient. Here none of these happens.

Dimensions: N tokens, I fan-in, O fan-out, V vocabulary, T sequence, K head; "…" any leading ones. A `Scale` may be a
tensor that broadcasts against what it multiplies: one multiplier a member. Batch sizes are those of one member.
"""

import math
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from scalelab.networks.members import looked_up, scaled_by

Scale: TypeAlias = float | Tensor
Constraint: TypeAlias = Literal["to_output_scale"] | None

RELU_STD = math.sqrt((1 - 1 / math.pi) / 2)  # of relu(z), z ~ N(0, 1): E[relu²] = 1/2, E[relu] = 1/√(2π)


def scaled(x: Tensor, forward: Scale = 1.0, backward: Scale = 1.0) -> Tensor:
    """x · forward, whose gradient is the incoming one times `backward` (package: scale.py:_scale).

    An autograd.Function rather than x·b + (x·(a−b)).detach(): that sum rounds three times (and loses everything to
    cancellation when b ≫ a) where this is one exact product each way.

    >>> x = torch.ones(2, requires_grad=True)
    >>> y = scaled(x, forward=3.0, backward=0.5)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([3.0, 3.0], [0.5, 0.5])
    """
    y: Tensor = _Scaled.apply(x, forward, backward)  # type: ignore[no-untyped-call]
    return y


def linear(x: Tensor, w: Tensor, constraint: Constraint = "to_output_scale") -> Tensor:
    """x […, I] by w [O, I], or [M, …, I] by [M, O, I] → […, O]: output 1/√I, grad(w) 1/√N (functional.py:linear).

    grad(x) is scaled by 1/√I as well under "to_output_scale", so that it stays a true gradient, and has variance O/I;
    by 1/√O under None, which is unit but right only where the ratio cancels (up and down projections of one branch) or
    where it is a common factor of all that is upstream.
    """
    fan_out, fan_in = w.shape[-2:]
    return _product(x, w, fan_in**-0.5, fan_in**-0.5 if constraint else fan_out**-0.5)


def readout(x: Tensor, w: Tensor) -> Tensor:
    """Logits of x […, I] and w [V, I], as `linear` but with output 1/I, grad(x) 1/√V (functional.py:linear_readout).

    The output has std 1/√I at the start, u-muP's vanishing logits; everything upstream is behind this one edge, so the
    two scales may differ without turning any gradient.
    """
    fan_out, fan_in = w.shape[-2:]
    return _product(x, w, 1 / fan_in, fan_out**-0.5)


def embedding(ids: Tensor, w: Tensor) -> Tensor:
    """Rows of w [V, D] for ids […], or of [M, V, D] for [M, …] → […, D]; grad(w) √(V/N) (functional.py:embedding)."""
    *members, vocab, _ = w.shape
    w = scaled(w, backward=(vocab * math.prod(members) / ids.numel()) ** 0.5)
    return looked_up(ids, w)


def silu_glu(up: Tensor, gate: Tensor, mult: Scale = 1.0) -> Tensor:
    """up · gate · σ(mult · gate) to unit std, both gradients by the scale of the output (functional.py:silu_glu)."""
    scale = _between(2.0, math.sqrt(2.0), 1 / (1 + 1 / mult**2))
    return scaled_by(up * F.silu(scaled_by(gate, mult)), scale / mult)


def gelu(x: Tensor, mult: Scale = 1.0) -> Tensor:
    """gelu(mult · x) / mult to unit std (functional.py:gelu).

    Its mean is not 0: the rms is 1.02 (mult ¼) to 1.21 (mult → ∞), that of the gradient as much, by the output's scale.
    """
    scale = _between(2.0, 1 / RELU_STD, 1 / (1 + 0.25 / mult**2))
    return scaled_by(F.gelu(scaled_by(x, mult)), scale / mult)


def relu(x: Tensor) -> Tensor:
    """relu(x) to unit std: `gelu` at mult → ∞. It is homogeneous, so a multiplier inside it would do nothing."""
    return F.relu(x) / RELU_STD


def softmax(x: Tensor, mult: Scale = 1.0) -> Tensor:
    """softmax(mult · x) over the last dimension, of n, to unit rms (functional.py:softmax).

    The scale goes from n, where the probabilities are flat, to √n, where they are one-hot; grad(x) is of order mult.
    """
    n = x.shape[-1]
    return scaled_by(F.softmax(scaled_by(x, mult), dim=-1), _between(n, math.sqrt(n), 1 / (1 + 4 / mult**2)))


def sdpa(q: Tensor, k: Tensor, v: Tensor, mult: Scale = 1.0, *, causal: bool = True) -> Tensor:
    """Attention of q […, H, T, K] on k and v […, G, T, K], logits mult/K (functional.py:scaled_dot_product_attention).

    The output is unit: its std is a model of how many values a query averages, between T (ln T/T in variance when
    causal) where attention is flat and 1 where it picks one. One scale for q, k and v, since they come from one tensor
    whose gradient unequal scales would turn: grad(v) is unit and grad(q), grad(k) about mult/√K, those of k and v
    √(H/G) times more where heads share them.
    """
    length, head_dim = v.shape[-2:]
    flat = (math.log(length) if causal else 1.0) / length if length > 1 else 1.0
    scale = 1 / _between(math.sqrt(flat), 1.0, 1 / (1 + 4 * head_dim / mult**2))
    leading, grouped = q.shape[:-3], q.shape[-3] != k.shape[-3]
    # The kernel takes one float, so the multiplier is on the queries; and four dimensions at most.
    q = scaled_by(q, mult)
    if q.dim() > 4:
        q, k, v = (each.flatten(0, -4) for each in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1 / head_dim, enable_gqa=grouped)
    return scaled_by(y.view(*leading, *y.shape[-3:]), scale)


def cross_entropy(logits: Tensor, targets: Tensor, mult: Scale = 1.0) -> Tensor:
    """Mean over N of the cross-entropy of mult · logits […, N, V] with targets […, N] → […], nats, one a member.

    Its gradient is that of the sum, times V/√(V−1) and without the factor `mult`: unit at uniform predictions, and the
    same for a token whatever the batch (functional.py:cross_entropy).
    """
    *members, tokens, vocab = logits.shape
    logits = scaled(logits, forward=mult, backward=vocab / math.sqrt(vocab - 1))
    losses = F.cross_entropy(logits.reshape(-1, vocab), targets.reshape(-1), reduction="none")
    return scaled(losses.view(*members, tokens).sum(-1), forward=1 / tokens)


def _product(x: Tensor, w: Tensor, output: float, grad_in: float) -> Tensor:
    """x wᵀ, forward by `output`, grad(x) by `grad_in`, grad(w) by 1/√N.

    The output's scale sits on the weight, where it gives grad(x) the same scale for nothing and has I·O elements to
    multiply instead of N·O; only a different grad(x) costs an op of its own.
    """
    members, fan_in = w.shape[:-2], w.shape[-1]
    tokens = x.numel() // (fan_in * math.prod(members))
    w = scaled(w, forward=output, backward=tokens**-0.5)
    x = x if grad_in == output else scaled(x, backward=grad_in / output)
    return (x.flatten(1, -2) @ w.mT).view(*x.shape[:-1], -1) if members else F.linear(x, w)


def _between(lower: float, upper: float, alpha: Scale) -> Scale:
    """From lower (alpha 0) to upper (alpha 1), evenly in the logarithm (core/functional.py)."""
    return lower * (upper / lower) ** alpha


class _Scaled(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, forward: Scale, backward: Scale) -> Tensor:
        y = scaled_by(x, forward)
        return x.view_as(x) if y is x else y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Scale, Scale], output: Tensor) -> None:
        scale = inputs[2]
        if isinstance(scale, Tensor):
            ctx.save_for_backward(scale)
        ctx.scale = None if isinstance(scale, Tensor) else scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        scale = ctx.saved_tensors[0] if ctx.scale is None else ctx.scale
        return scaled_by(grad, scale), None, None
