"""The vision transformer: patches, learned or rotary positions, attention both ways, mean pooling (arXiv:2205.01580).

Tensors are named with their shapes: B images, T pixels, P patches, F pixels a patch, D width, K head dimension.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from scalelab.models.vit import PATCH, patches_a_side
from scalelab.networks import transformer
from scalelab.networks.image import ImageProxy, head
from scalelab.networks.layers import Embedding, Linear
from scalelab.networks.members import places
from scalelab.networks.transformer import Attention, Rope, Transformer
from scalelab.resolve import Multipliers, multipliers
from scalelab.shape import Architecture, Shape
from scalelab.spec import RunSpec

ROPE_THETA = 100.0  # RoPE-ViT, arXiv:2403.13298 §3.2, axial


class Block(transformer.Block):
    """The decoder's block, whose attention here looks both ways."""

    def __init__(self, shape: Shape, architecture: Architecture, sites: Multipliers) -> None:
        super().__init__(shape, architecture, sites)
        self.attention = Attention(shape, architecture, sites, causal=False)


class ViT(ImageProxy):
    """Pixels [B, T] → logits [B, 1, V]."""

    labels: ClassVar[dict[str, str]] = Transformer.labels

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        shape, architecture = spec.shape, spec.architecture
        self.side = patches_a_side(shape)
        self.embedding = Linear(PATCH**2, shape.width)
        learned = architecture.positions == "learned"
        self.positions = Embedding(self.side**2, shape.width) if learned else None
        self.blocks = nn.ModuleList(Block(shape, architecture, multipliers(spec)) for _ in range(shape.depth))
        self.norm, self.readout = head(shape.width, spec)
        rope = None if learned else torch.stack(axial_tables(self.side, shape.head_dim))
        self.register_buffer("rope", rope, persistent=False)

    def forward(self, ids_BT: Tensor) -> Tensor:
        pixels_BT = self.standardised(ids_BT, window=PATCH**2)
        # rows and columns of patches, before those within a patch
        patches = pixels_BT.view(*ids_BT.shape[:-1], self.side, PATCH, self.side, PATCH).transpose(-3, -2)
        x_BPD = self.embedding(patches.reshape(*ids_BT.shape[:-1], self.side**2, PATCH**2))
        rope = None
        if self.positions is not None:
            x_BPD = x_BPD + self.positions(places(ids_BT, self.side**2))
        else:
            cos_P1K, sin_P1K = self.rope  # type: ignore[misc]
            rope = (cos_P1K, sin_P1K)
        for block in self.blocks:
            x_BPD = block(x_BPD, rope)
        logits_BV: Tensor = self.readout(self.norm(x_BPD.mean(dim=-2)))
        return logits_BV.unsqueeze(-2)


def axial_tables(side: int, head_dim: int) -> Rope:
    """cos and sin [P, 1, K] for `transformer.rotate`: half the pairs turn with the row, half with the column."""
    frequency = ROPE_THETA ** (-torch.arange(0, head_dim // 2, 2, dtype=torch.float64) / (head_dim // 2))
    place = torch.arange(side, dtype=torch.float64)
    row, column = torch.cartesian_prod(place, place).unbind(-1)
    angle_PK = torch.cat([torch.outer(row, frequency), torch.outer(column, frequency)], dim=-1).repeat(1, 2)
    return angle_PK.cos().float().unsqueeze(1), angle_PK.sin().float().unsqueeze(1)
