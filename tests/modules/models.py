"""Models that know nothing of scalelab."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOCAB, CONTEXT = 50, 12


class MLP(nn.Module):
    def __init__(self, width: int, *, inputs: int = 8, classes: int = 5, readout: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.hidden = nn.Linear(width, width)
        self.readout = readout(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.readout(self.hidden(self.first(x).relu()).relu())
        return y


class Block(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, ffn: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, ffn), nn.Linear(ffn, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (
            f(h).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o_proj(y.transpose(1, 2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class LM(nn.Module):
    """A pre-norm decoder of torch's own layers: ids [B, T] → logits [B, T, V]."""

    def __init__(
        self, width: int, depth: int = 2, *, heads: int | None = None, kv_heads: int | None = None,
        ffn: int | None = None, tied: bool = False, readout: type[nn.Linear] = nn.Linear,
    ) -> None:  # fmt: skip
        super().__init__()
        heads = heads or width // 8
        self.embed = nn.Embedding(VOCAB, width)
        self.positions = nn.Parameter(torch.randn(CONTEXT, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, kv_heads or heads, ffn or 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = readout(width, VOCAB, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(self.norm(x))
        return y


class Experts(nn.Module):
    """Stacked experts, raw parameters [E, out, in]; every token meets every expert, weighted."""

    def __init__(self, width: int, experts: int, ffn: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(experts, ffn, width) / width**0.5)
        self.w2 = nn.Parameter(torch.randn(experts, width, ffn) / ffn**0.5)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        h = torch.einsum("btd,efd->btef", x, self.w1).relu()
        return torch.einsum("btef,edf,bte->btd", h, self.w2, gate)


class MoEBlock(nn.Module):
    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = Experts(width, experts, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.experts(x, self.gate(x).softmax(-1))
        return x + y


class MoE(nn.Module):
    def __init__(self, width: int, experts: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width)
        self.layers = nn.ModuleList(MoEBlock(width, experts) for _ in range(2))
        self.head = nn.Linear(width, VOCAB)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        y: Tensor = self.head(x)
        return y


def ids(batch: int = 4, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCAB, (batch, CONTEXT), generator=torch.Generator().manual_seed(seed))


def seeded(build: type[nn.Module], *args: object, seed: int = 0, **kwargs: object) -> nn.Module:
    torch.manual_seed(seed)
    return build(*args, **kwargs)


def lm_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5, batch: int = 4) -> list[float]:
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = lm_loss(model, ids(batch, step))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
