"""The transformer of u-muP: the decoder of `networks.transformer` built of unit-scaled operations.

Its forward and backward scales are constants of the operations (`unit_ops`), equal to the table's multipliers. Tunable
are u-muP's α_attn-softmax, α_ffn-act, α_res, α_res-attn-ratio and α_loss-softmax (arXiv:2407.17465 §4), which are
`Hparams.attention_multiplier`, `activation_multiplier`, `residual_multiplier`, `residual_attention_ratio` and
`logits_multiplier`.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from scalelab.networks import unit_ops as unit
from scalelab.networks.layers import Embedding as Table
from scalelab.networks.layers import Multiplied, Proxy
from scalelab.networks.members import Constant, rms_normed, spread, times
from scalelab.networks.transformer import Rope, Transformer, rope_tables, rotate
from scalelab.networks.unit_residual import residual_add, residual_split, residual_taus
from scalelab.shape import Shape
from scalelab.spec import RunSpec


class Linear(Multiplied):
    """y = x Wᵀ/√fan_in with the gradients' scales of `constraint` (None: each its own)."""

    def __init__(self, fan_in: int, fan_out: int, *, constraint: unit.Constraint = "to_output_scale") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in))
        self.constraint = constraint

    def forward(self, x: Tensor) -> Tensor:
        return unit.linear(x, self.weight, self.constraint)


class Readout(Multiplied):
    """y = x Wᵀ/fan_in, the gradient of x scaled by 1/√fan_out."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in))

    def forward(self, x: Tensor) -> Tensor:
        return unit.readout(x, self.weight)


class Embedding(Table):
    def forward(self, ids: Tensor) -> Tensor:
        return unit.embedding(ids, self.weight)


class Attention(nn.Module):
    constants: ClassVar[tuple[str, ...]] = ("multiplier",)

    def __init__(self, shape: Shape, multiplier: float) -> None:
        super().__init__()
        d = shape.width
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads, shape.head_dim
        self.multiplier: Constant = multiplier
        self.query, self.key, self.value = Linear(d, d), Linear(d, shape.kv_width), Linear(d, shape.kv_width)
        self.output = Linear(d, d)

    def forward(self, x_BTD: Tensor, rope: Rope) -> Tensor:
        h_BTD = norm(x_BTD)
        q_BTHK = rotate(self.query(h_BTD).unflatten(-1, (self.heads, self.head_dim)), rope)
        k_BTGK = rotate(self.key(h_BTD).unflatten(-1, (self.kv_heads, self.head_dim)), rope)
        v_BTGK = self.value(h_BTD).unflatten(-1, (self.kv_heads, self.head_dim))
        q_BHTK, k_BGTK, v_BGTK = (each.transpose(-3, -2) for each in (q_BTHK, k_BTGK, v_BTGK))
        y_BHTK = unit.sdpa(q_BHTK, k_BGTK, v_BGTK, spread(self.multiplier, q_BHTK))
        output: Tensor = self.output(y_BHTK.transpose(-3, -2).flatten(-2))
        return output


class MLP(nn.Module):
    constants: ClassVar[tuple[str, ...]] = ("multiplier",)

    def __init__(self, shape: Shape, mlp: str, multiplier: float) -> None:
        super().__init__()
        d, f = shape.width, shape.ffn
        self.multiplier: Constant = multiplier
        self.gate = Linear(d, f, constraint=None) if mlp == "swiglu" else None
        self.up = Linear(d, f, constraint=None)
        self.down = Linear(f, d, constraint=None)
        self.activation: Callable[[Tensor], Tensor] = unit.relu if mlp == "relu" else self._gelu

    def _gelu(self, x: Tensor) -> Tensor:
        return unit.gelu(x, spread(self.multiplier, x))

    def forward(self, x_BTD: Tensor) -> Tensor:
        h_BTD = norm(x_BTD)
        up_BTF = self.up(h_BTD)
        if self.gate is None:
            a_BTF = self.activation(up_BTF)
        else:
            a_BTF = unit.silu_glu(up_BTF, self.gate(h_BTD), spread(self.multiplier, up_BTF))
        down: Tensor = self.down(a_BTF)
        return down


class Block(nn.Module):
    """Both branches mixed into the stream by their τ, so that it keeps unit scale."""

    constants: ClassVar[tuple[str, ...]] = ("attention_tau", "mlp_tau")

    def __init__(self, spec: RunSpec, taus: list[float]) -> None:
        super().__init__()
        self.attention = Attention(spec.shape, spec.hparams.attention_multiplier)
        self.mlp = MLP(spec.shape, spec.architecture.mlp, spec.hparams.activation_multiplier)
        self.attention_tau: Constant
        self.mlp_tau: Constant
        self.attention_tau, self.mlp_tau = taus

    def forward(self, x_BTD: Tensor, rope: Rope) -> Tensor:
        tau = spread(self.attention_tau, x_BTD)
        into, skip = residual_split(x_BTD, tau)
        x_BTD = residual_add(self.attention(into, rope), skip, tau)
        tau = spread(self.mlp_tau, x_BTD)
        into, skip = residual_split(x_BTD, tau)
        return residual_add(self.mlp(into), skip, tau)


class UnitTransformer(Proxy):
    """Token ids [B, T] → logits [B, T, V], before α_loss-softmax."""

    labels = Transformer.labels
    constants = ("multiplier",)

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        shape, hparams = spec.shape, spec.hparams
        taus = residual_taus(2 * shape.depth, hparams.residual_multiplier, hparams.residual_attention_ratio)
        self.multiplier: Constant = hparams.logits_multiplier
        self.embedding = Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(spec, taus[2 * block : 2 * block + 2]) for block in range(shape.depth))
        self.readout = Readout(shape.width, shape.vocab)
        self.register_buffer("rope", torch.stack(rope_tables(shape.context, shape.head_dim)), persistent=False)

    def part_weight(self, parts: int) -> float:
        """Gradients of N tokens are sums over √N, not means."""
        return float(parts**-0.5)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(ids_BT)
        cos_T1K, sin_T1K = self.rope[:, : ids_BT.shape[-1]]  # type: ignore[index]
        for block in self.blocks:
            x_BTD = block(x_BTD, (cos_T1K, sin_T1K))
        logits_BTV: Tensor = self.readout(norm(x_BTD))
        return logits_BTV

    def terms(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy, nats, whose gradient is scaled to unit size: the optimizer must not see its scale."""
        logits_MNV = self(tokens_BT[..., :-1]).flatten(-3, -2)
        targets_MN = self.targets(tokens_BT).flatten(-2)
        loss = unit.cross_entropy(logits_MNV, targets_MN, spread(self.multiplier, logits_MNV))
        return loss, loss

    def logits(self, tokens_BT: Tensor) -> Tensor:
        return times(super().logits(tokens_BT), self.multiplier)


def norm(x_BTD: Tensor) -> Tensor:
    return rms_normed(x_BTD)
