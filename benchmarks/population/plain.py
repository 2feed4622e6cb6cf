"""The transformer proxy as anybody would write it in eager torch: the yardstick of speed, and an oracle of numbers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.spec import RunSpec


def rotated(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    first, second = x_BHTK.chunk(2, dim=-1)
    return x_BHTK * cos_TK + torch.cat([-second, first], dim=-1) * sin_TK


class Block(nn.Module):
    """x + attention(norm(x)), then x + swiglu(norm(x))."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(width, ffn, bias=False), nn.Linear(width, ffn, bias=False)
        self.down = nn.Linear(ffn, width, bias=False)

    def forward(self, x_BTD: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        h_BTD = self.attention_norm(x_BTD)
        q, k, v = (f(h_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        q, k = rotated(q, cos_TK, sin_TK), rotated(k, cos_TK, sin_TK)
        y_BHTK = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.output(y_BHTK.transpose(1, 2).flatten(2))
        h_BTD = self.mlp_norm(x_BTD)
        return x_BTD + self.down(F.silu(self.gate(h_BTD)) * self.up(h_BTD))


class PlainTransformer(nn.Module):
    """The proxy's network at its base, where no parametrization multiplies anything."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        shape = spec.shape
        self.embedding = nn.Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads, shape.ffn) for _ in range(shape.depth))
        self.norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.readout = nn.Linear(shape.width, shape.vocab, bias=False)
        frequency = 10_000.0 ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim)
        angle_TK = torch.outer(torch.arange(shape.context, dtype=torch.float64), frequency.repeat(2))
        self.register_buffer("cos", angle_TK.cos().float(), persistent=False)
        self.register_buffer("sin", angle_TK.sin().float(), persistent=False)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(ids_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, self.cos, self.sin)
        return self.readout(self.norm(x_BTD))

    def loss(self, tokens_BT: Tensor) -> Tensor:
        return F.cross_entropy(self(tokens_BT[:, :-1]).flatten(0, 1), tokens_BT[:, 1:].flatten())
