"""The residual MLP on images: all pixels at once, pre-norm residual blocks. B images, T pixels, D width, V labels."""

from torch import Tensor, nn

from scalelab.networks.image import Block, ImageProxy, head
from scalelab.networks.layers import Linear
from scalelab.networks.transformer import MLP
from scalelab.resolve import multipliers
from scalelab.spec import RunSpec


class ResidualMLP(ImageProxy):
    """Pixels [B, T] → logits [B, 1, V]."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        shape, sites = spec.shape, multipliers(spec)
        self.embedding = Linear(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(MLP(shape, spec.architecture), sites) for _ in range(shape.depth))
        self.norm, self.readout = head(shape.width, spec)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BD = self.embedding(self.standardised(ids_BT, window=ids_BT.shape[-1]))
        for block in self.blocks:
            x_BD = block(x_BD)
        logits_BV: Tensor = self.readout(self.norm(x_BD))
        return logits_BV.unsqueeze(-2)
