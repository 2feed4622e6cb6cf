"""The transformer proxy: a pre-norm decoder with rotary positions, causal attention and grouped key/value heads.

Tensors are named with their shapes: B sequences, T tokens, D width, H heads, G key/value heads, K head dimension,
V vocabulary. Forward constants are plain floats on the modules and nothing is attached to a tensor, so a deepcopy, a
state_dict or a wrapper changes nothing. Each operation treats leading dimensions alike, none mixes sequences.
"""

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.parametrizations.table import Role
from scalelab.resolve import Multipliers, Setting, multipliers, settings
from scalelab.shape import Architecture, Shape
from scalelab.spec import RunSpec

ROPE_THETA = 10_000.0  # RoFormer, arXiv:2104.09864 §3.2.2


class Linear(nn.Module):
    """y = multiplier · x Wᵀ + bias; the bias is not multiplied, as in mup's MuReadout."""

    def __init__(self, fan_in: int, fan_out: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in))
        self.bias = nn.Parameter(torch.empty(fan_out)) if bias else None
        self.multiplier = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x if self.multiplier == 1.0 else x * self.multiplier, self.weight, self.bias)


class Embedding(nn.Module):
    """y = multiplier · W[id]."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(entries, width))
        self.multiplier = 1.0

    def forward(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.weight)
        return x if self.multiplier == 1.0 else x * self.multiplier


class RMSNorm(nn.Module):
    """x / rms(x), times a learned gain where there is one."""

    def __init__(self, length: int, *, gain: bool) -> None:
        super().__init__()
        self.length = length
        self.gain = nn.Parameter(torch.empty(length)) if gain else None

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (self.length,), self.gain, eps=1e-6)


class Attention(nn.Module):
    def __init__(self, shape: Shape, architecture: Architecture, scale: float) -> None:
        super().__init__()
        d, gains, bias = shape.width, architecture.norm_gains, architecture.biases
        self.heads, self.kv_heads, self.head_dim, self.scale = shape.heads, shape.kv_heads, shape.head_dim, scale
        self.norm = RMSNorm(d, gain=gains)
        self.query = Linear(d, d, bias=bias)
        self.key = Linear(d, shape.kv_width, bias=bias)
        self.value = Linear(d, shape.kv_width, bias=bias)
        self.query_norm = RMSNorm(self.head_dim, gain=gains) if architecture.qk_norm else None
        self.key_norm = RMSNorm(self.head_dim, gain=gains) if architecture.qk_norm else None
        self.output = Linear(d, d, bias=bias)

    def forward(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        h_BTD = self.norm(x_BTD)
        q_BTHK = self.query(h_BTD).unflatten(-1, (self.heads, self.head_dim))
        k_BTGK = self.key(h_BTD).unflatten(-1, (self.kv_heads, self.head_dim))
        v_BTGK = self.value(h_BTD).unflatten(-1, (self.kv_heads, self.head_dim))
        if self.query_norm is not None and self.key_norm is not None:
            q_BTHK, k_BTGK = self.query_norm(q_BTHK), self.key_norm(k_BTGK)
        # One rotation for queries and keys together: a third of the attention block's time on a CPU at small width.
        qk = rotate(torch.cat([q_BTHK, k_BTGK], dim=-2), rope)
        q_BTHK, k_BTGK = torch.split(qk, [self.heads, self.kv_heads], dim=-2)
        y_BHTK = F.scaled_dot_product_attention(
            q_BTHK.transpose(-3, -2),
            k_BTGK.transpose(-3, -2),
            v_BTGK.transpose(-3, -2),
            is_causal=True,
            scale=self.scale,
            enable_gqa=self.heads != self.kv_heads,
        )
        output: Tensor = self.output(y_BHTK.transpose(-3, -2).flatten(-2))
        return output


class MLP(nn.Module):
    def __init__(self, shape: Shape, architecture: Architecture) -> None:
        super().__init__()
        d, f, bias = shape.width, shape.ffn, architecture.biases
        self.norm = RMSNorm(d, gain=architecture.norm_gains)
        self.gate = Linear(d, f, bias=bias) if architecture.mlp == "swiglu" else None
        self.up = Linear(d, f, bias=bias)
        self.down = Linear(f, d, bias=bias)
        self.activation = F.relu if architecture.mlp == "relu" else F.gelu

    def forward(self, x_BTD: Tensor) -> Tensor:
        h_BTD = self.norm(x_BTD)
        up_BTF = self.up(h_BTD)
        a_BTF = self.activation(up_BTF) if self.gate is None else F.silu(self.gate(h_BTD)) * up_BTF
        down: Tensor = self.down(a_BTF)
        return down


class Block(nn.Module):
    """x + r · attention(x), then x + r · mlp(x), r the residual multiplier."""

    def __init__(self, shape: Shape, architecture: Architecture, sites: Multipliers) -> None:
        super().__init__()
        self.attention = Attention(shape, architecture, sites.attention)
        self.mlp = MLP(shape, architecture)
        self.residual = sites.residual

    def forward(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        # alpha= fuses the multiplication; at 1 it is the plain sum, bit for bit.
        x_BTD = torch.add(x_BTD, self.attention(x_BTD, rope), alpha=self.residual)
        return torch.add(x_BTD, self.mlp(x_BTD), alpha=self.residual)


class Transformer(nn.Module):
    """Token ids [B, T] → logits [B, T, V]."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        shape, architecture = spec.shape, spec.architecture
        self.embedding = Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape, architecture, multipliers(spec)) for _ in range(shape.depth))
        self.norm = RMSNorm(shape.width, gain=architecture.norm_gains)
        self.readout = Linear(shape.width, shape.vocab)
        if architecture.tied_head:
            self.readout.weight = self.embedding.weight
        self.register_buffer("rope", torch.stack(rope_tables(shape.context, shape.head_dim)), persistent=False)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(ids_BT)
        cos_T1K, sin_T1K = self.rope[:, : ids_BT.shape[-1]]  # type: ignore[index]
        for block in self.blocks:
            x_BTD = block(x_BTD, (cos_T1K, sin_T1K))
        logits_BTV: Tensor = self.readout(self.norm(x_BTD))
        return logits_BTV

    def loss(self, tokens_BT: Tensor) -> Tensor:
        """Mean cross-entropy of each next token, nats, for ids [B, T+1]."""
        logits_BTV = self(tokens_BT[..., :-1])
        return F.cross_entropy(logits_BTV.flatten(0, -2), tokens_BT[..., 1:].flatten())


def rope_tables(context: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin [T, 1, K] of rotary angles, the frequencies laid out twice (first and second half of a head)."""
    frequency = ROPE_THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle_TK = torch.outer(torch.arange(context, dtype=torch.float64), frequency.repeat(2))
    return angle_TK.cos().float().unsqueeze(1), angle_TK.sin().float().unsqueeze(1)


def rotate(x_BTHK: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding on pairs (i, i + K/2) of each head."""
    cos_T1K, sin_T1K = rope
    first, second = x_BTHK.chunk(2, dim=-1)
    return x_BTHK * cos_T1K + torch.cat([-second, first], dim=-1) * sin_T1K


def build(spec: RunSpec, device: str = "cpu") -> Transformer:
    """The network of a spec, initialised; every parameter is claimed by the inventory exactly once, or it is a bug."""
    with torch.device(device):
        network = Transformer(spec)
    resolved = {setting.tensor.name: setting for setting in settings(spec)}
    parameters = dict(network.named_parameters())
    if parameters.keys() != resolved.keys():
        raise RuntimeError(f"roles do not cover the parameters: {sorted(parameters.keys() ^ resolved.keys())}")
    for name, parameter in parameters.items():
        if tuple(parameter.shape) != resolved[name].tensor.size(spec.shape):
            raise RuntimeError(f"{name} is {tuple(parameter.shape)}, its role says {resolved[name].tensor}")
        initialise(parameter, resolved[name], spec.seed)
        module = network.get_submodule(name.rpartition(".")[0])
        if isinstance(module, Linear | Embedding) and name.endswith(".weight"):
            module.multiplier = resolved[name].multiplier
    if spec.architecture.tied_head:  # the shared table's multiplier is the readout's
        network.readout.multiplier = network.embedding.multiplier
        network.embedding.multiplier = 1.0
    network.embedding.multiplier *= spec.hparams.embedding_multiplier
    return network


@torch.no_grad()
def initialise(parameter: Tensor, setting: Setting, seed: int) -> None:
    """Fill one parameter: N(0, 1) from a generator of (seed, name), times its std.

    A draw depends on nothing else, so the same tensor gets the same draw under every parametrization.
    """
    if setting.tensor.role is Role.GAIN:
        parameter.fill_(1.0)
    elif setting.init_std == 0.0:
        parameter.zero_()
    else:
        digest = hashlib.sha256(f"{seed}/{setting.tensor.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        parameter.copy_(torch.randn(parameter.shape, generator=generator).mul_(setting.init_std))
