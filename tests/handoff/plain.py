"""A decoder in plain PyTorch, with no multiplier anywhere: what most people's own code looks like."""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.models.tensors import NORM_EPS
from scalelab.spec import RunSpec
from tests.handoff.training import rope_tables


class PlainBlock(nn.Module):
    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        shape, bias = spec.shape, spec.architecture.biases
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        self.ln_1 = nn.RMSNorm(shape.width, eps=NORM_EPS)
        self.q_proj = nn.Linear(shape.width, shape.width, bias=bias)
        self.k_proj = nn.Linear(shape.width, shape.kv_width, bias=bias)
        self.v_proj = nn.Linear(shape.width, shape.kv_width, bias=bias)
        self.q_norm = nn.RMSNorm(shape.head_dim, eps=NORM_EPS) if spec.architecture.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(shape.head_dim, eps=NORM_EPS) if spec.architecture.qk_norm else nn.Identity()
        self.o_proj = nn.Linear(shape.width, shape.width, bias=bias)
        self.ln_2 = nn.RMSNorm(shape.width, eps=NORM_EPS)
        self.w1 = nn.Linear(shape.width, shape.ffn, bias=bias)
        self.w3 = nn.Linear(shape.width, shape.ffn, bias=bias)
        self.w2 = nn.Linear(shape.ffn, shape.width, bias=bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        h = self.ln_1(x)
        q = _turned(self.q_norm(self.q_proj(h).unflatten(-1, (self.heads, -1))), cos, sin)
        k = _turned(self.k_norm(self.k_proj(h).unflatten(-1, (self.kv_heads, -1))), cos, sin)
        v = self.v_proj(h).unflatten(-1, (self.kv_heads, -1))
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o_proj(y.transpose(1, 2).flatten(2))
        h = self.ln_2(x)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


class Plain(nn.Module):
    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        shape = spec.shape
        self.wte = nn.Embedding(shape.vocab, shape.width)
        self.layers = nn.ModuleList(PlainBlock(spec) for _ in range(shape.depth))
        self.ln_f = nn.RMSNorm(shape.width, eps=NORM_EPS)
        self.lm_head = nn.Linear(shape.width, shape.vocab, bias=False)
        if spec.architecture.tied_head:
            self.lm_head.weight = self.wte.weight
        self.rope = rope_tables(shape.context, shape.head_dim)

    def loss(self, ids: Tensor) -> Tensor:
        x = self.wte(ids[:, :-1])
        for layer in self.layers:
            x = layer(x, *self.rope)
        return F.cross_entropy(self.lm_head(self.ln_f(x)).flatten(0, 1), ids[:, 1:].flatten())


RENAMED = {
    r"wte\.(.*)": r"embedding.\1",
    r"lm_head\.(.*)": r"readout.\1",
    r"ln_f\.weight": "norm.gain",
    r"layers\.(\d+)\.ln_1\.weight": r"blocks.\1.attention.norm.gain",
    r"layers\.(\d+)\.ln_2\.weight": r"blocks.\1.mlp.norm.gain",
    r"layers\.(\d+)\.q_norm\.weight": r"blocks.\1.attention.query_norm.gain",
    r"layers\.(\d+)\.k_norm\.weight": r"blocks.\1.attention.key_norm.gain",
    r"layers\.(\d+)\.q_proj\.(.*)": r"blocks.\1.attention.query.\2",
    r"layers\.(\d+)\.k_proj\.(.*)": r"blocks.\1.attention.key.\2",
    r"layers\.(\d+)\.v_proj\.(.*)": r"blocks.\1.attention.value.\2",
    r"layers\.(\d+)\.o_proj\.(.*)": r"blocks.\1.attention.output.\2",
    r"layers\.(\d+)\.w1\.(.*)": r"blocks.\1.mlp.gate.\2",
    r"layers\.(\d+)\.w3\.(.*)": r"blocks.\1.mlp.up.\2",
    r"layers\.(\d+)\.w2\.(.*)": r"blocks.\1.mlp.down.\2",
}


def rename(name: str) -> str:
    """The name of one of its parameters in a recipe."""
    for pattern, new in RENAMED.items():
        if re.fullmatch(pattern, name):
            return re.sub(pattern, new, name)
    return name


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
