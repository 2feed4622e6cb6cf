"""The transformer proxy: a pre-norm decoder, rotary or learned positions, causal attention, grouped key/value heads.

Tensors are named with their shapes: B sequences, T tokens, D width, H heads, G key/value heads, K head dimension,
V vocabulary.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.models.transformer import ROPE_THETA
from scalelab.networks.layers import Embedding, Linear, Proxy, RMSNorm
from scalelab.networks.members import Constant, places, times
from scalelab.resolve import Multipliers, multipliers
from scalelab.shape import Architecture, Shape
from scalelab.spec import RunSpec

Rope = tuple[Tensor, Tensor]


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)² (Primer, arXiv:2109.08668)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swiglu": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
    "squared_relu": squared_relu,
}


class Attention(nn.Module):
    """`scale` is the softmax scale of table and shapes; the tuned `multiplier` of it is on the queries."""

    constants: ClassVar[tuple[str, ...]] = ("multiplier",)

    def __init__(self, shape: Shape, architecture: Architecture, sites: Multipliers, *, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        d, gains, bias = shape.width, architecture.norm_gains, architecture.biases
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads, shape.head_dim
        self.scale = sites.attention_site
        self.multiplier: Constant = sites.attention_tuned
        self.norm = RMSNorm(d, gain=gains)
        self.query = Linear(d, d, bias=bias)
        self.key = Linear(d, shape.kv_width, bias=bias)
        self.value = Linear(d, shape.kv_width, bias=bias)
        self.query_norm = RMSNorm(self.head_dim, gain=gains) if architecture.qk_norm else None
        self.key_norm = RMSNorm(self.head_dim, gain=gains) if architecture.qk_norm else None
        self.output = Linear(d, d, bias=bias)

    def forward(self, x_BTD: Tensor, rope: Rope | None) -> Tensor:
        h_BTD = self.norm(x_BTD)
        q_BTHK = self.query(h_BTD).unflatten(-1, (self.heads, self.head_dim))
        k_BTGK = self.key(h_BTD).unflatten(-1, (self.kv_heads, self.head_dim))
        v_BTGK = self.value(h_BTD).unflatten(-1, (self.kv_heads, self.head_dim))
        if self.query_norm is not None and self.key_norm is not None:
            q_BTHK, k_BTGK = self.query_norm(q_BTHK), self.key_norm(k_BTGK)
        if rope is not None:
            # One rotation for both together: a third of the attention block's time on a CPU at small width.
            qk = rotate(torch.cat([q_BTHK, k_BTGK], dim=-2), rope)
            q_BTHK, k_BTGK = torch.split(qk, [self.heads, self.kv_heads], dim=-2)
        # Members and sequences in one dimension: the fast kernels take four dimensions and no more.
        q_BHTK, k_BGTK, v_BGTK = (
            each.flatten(0, -4).transpose(-3, -2) for each in (times(q_BTHK, self.multiplier), k_BTGK, v_BTGK)
        )
        y_BHTK = F.scaled_dot_product_attention(
            q_BHTK, k_BGTK, v_BGTK, is_causal=self.causal, scale=self.scale, enable_gqa=self.heads != self.kv_heads
        )
        output: Tensor = self.output(y_BHTK.transpose(-3, -2).reshape(x_BTD.shape))
        return output


class MLP(nn.Module):
    def __init__(self, shape: Shape, architecture: Architecture) -> None:
        super().__init__()
        d, f, bias = shape.width, shape.ffn, architecture.biases
        self.norm = RMSNorm(d, gain=architecture.norm_gains)
        self.gate = Linear(d, f, bias=bias) if architecture.mlp == "swiglu" else None
        self.up = Linear(d, f, bias=bias)
        self.down = Linear(f, d, bias=bias)
        self.activation = ACTIVATIONS[architecture.mlp]

    def forward(self, x_BTD: Tensor) -> Tensor:
        h_BTD = self.norm(x_BTD)
        up_BTF = self.up(h_BTD)
        a_BTF = self.activation(up_BTF) if self.gate is None else self.activation(self.gate(h_BTD)) * up_BTF
        down: Tensor = self.down(a_BTF)
        return down


class Residual(nn.Module):
    """x + r · m · branch(x): r is the factor of table and shapes, m the tuned multiplier of it."""

    constants: ClassVar[tuple[str, ...]] = ("multiplier",)

    def __init__(self, sites: Multipliers) -> None:
        super().__init__()
        self.residual = sites.residual_site
        self.multiplier: Constant = sites.residual_tuned

    def added(self, x: Tensor, branch: Tensor) -> Tensor:
        """The stream after a branch."""
        # alpha= fuses the multiplication; at 1 it is the plain sum, bit for bit.
        return torch.add(x, times(branch, self.multiplier), alpha=self.residual)


class Block(Residual):
    """Attention and MLP, each added to the stream."""

    def __init__(self, shape: Shape, architecture: Architecture, sites: Multipliers) -> None:
        super().__init__(sites)
        self.attention = Attention(shape, architecture, sites)
        self.mlp = MLP(shape, architecture)

    def forward(self, x_BTD: Tensor, rope: Rope | None) -> Tensor:
        x_BTD = self.added(x_BTD, self.attention(x_BTD, rope))
        return self.added(x_BTD, self.mlp(x_BTD))


class Transformer(Proxy):
    """Token ids [B, T] → logits [B, T, V]. `block` is the class of its blocks."""

    block: type[nn.Module] = Block
    labels: ClassVar[dict[str, str]] = {
        "embedding": "embedding", "query": "query", "key": "key", "value": "value", "attention": "attention out",
        "up": "up", "mlp": "mlp out",
    }  # fmt: skip

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        shape, architecture = spec.shape, spec.architecture
        self.embedding = Embedding(shape.vocab, shape.width)
        learned = architecture.positions == "learned"
        self.positions = Embedding(shape.context, shape.width) if learned else None
        self.blocks = nn.ModuleList(self.block(shape, architecture, multipliers(spec)) for _ in range(shape.depth))
        self.norm = RMSNorm(shape.width, gain=architecture.norm_gains)
        self.readout = Linear(shape.width, shape.vocab)
        if architecture.tied_head:
            self.readout.weight = self.embedding.weight
        rope = None if learned else torch.stack(rope_tables(shape.context, shape.head_dim))
        self.register_buffer("rope", rope, persistent=False)

    def tuned(self, spec: RunSpec) -> None:
        """What the multipliers of single tensors leave to the network: the shared table, the tunable constants."""
        if spec.architecture.tied_head:  # the shared table's multiplier is the readout's
            self.readout.multiplier = self.embedding.multiplier
            self.embedding.multiplier = 1.0
        self.embedding.multiplier *= spec.hparams.embedding_multiplier

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(ids_BT)
        rope = None
        if self.positions is not None:
            x_BTD = x_BTD + self.positions(places(ids_BT, ids_BT.shape[-1]))
        else:
            cos_T1K, sin_T1K = self.rope[:, : ids_BT.shape[-1]]  # type: ignore[index]
            rope = (cos_T1K, sin_T1K)
        for block in self.blocks:
            x_BTD = block(x_BTD, rope)
        logits_BTV: Tensor = self.readout(self.norm(x_BTD))
        return logits_BTV


def rope_tables(context: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin [T, 1, K] of rotary angles, the frequencies laid out twice (first and second half of a head)."""
    frequency = ROPE_THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle_TK = torch.outer(torch.arange(context, dtype=torch.float64), frequency.repeat(2))
    return angle_TK.cos().float().unsqueeze(1), angle_TK.sin().float().unsqueeze(1)


def rotate(x_BTHK: Tensor, rope: Rope) -> Tensor:
    """Rotary position embedding on pairs (i, i + K/2) of each head."""
    turned: Tensor = _Rotation.apply(x_BTHK, *rope)  # type: ignore[no-untyped-call]
    return turned


class _Rotation(torch.autograd.Function):
    """x · cos + (−second half, first half) · sin, whose gradient is turned back: two thirds of the derived passes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        return torch.addcmul(x * cos, x.roll(half, dims=-1), signed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return rotate(grad, (cos, -sin)), None, None
