"""The residual convolutional network: pre-activation blocks (arXiv:1603.05027) in two stages, global average pooling.

Tensors have their channels last, as everything else here has its width: B images, X rows, Y columns, D channels.

The norm is the transformer's RMS norm, over the channels of each place. Not a batch norm: its statistics tie the images
of a batch together (a loss, and a step, would depend on what else is in it and on the batch's size), and its running
averages are state beside the parameters, for which no table has a rule.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.models.image import side
from scalelab.models.resnet import KERNEL, first_blocks, second_stage
from scalelab.networks.image import Block, ImageProxy, head
from scalelab.networks.layers import Linear
from scalelab.networks.members import times
from scalelab.networks.transformer import MLP
from scalelab.resolve import multipliers
from scalelab.shape import Architecture, Shape
from scalelab.spec import RunSpec


class Conv(Linear):
    """A linear map of the 3×3 window around each place, or each `stride`-th; zeros (mean grey) outside the image."""

    def __init__(self, fan_in: int, fan_out: int, *, bias: bool = False, stride: int = 1) -> None:
        super().__init__(fan_in, fan_out, bias=bias)
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in, KERNEL, KERNEL))
        self.stride = stride

    def forward(self, x_BXYD: Tensor) -> Tensor:
        x_BXYD = times(x_BXYD, self.multiplier)
        if self.weight.dim() == 4:
            return self.convolved(x_BXYD, self.weight, self.bias)
        # A member at a time. One convolution of M groups would be one launch, but in other algorithms: other bits.
        biases = [None] * len(self.weight) if self.bias is None else self.bias
        return torch.stack([self.convolved(*each) for each in zip(x_BXYD, self.weight, biases, strict=True)])

    def convolved(self, x_BXYD: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y_BDXY = F.conv2d(x_BXYD.movedim(-1, -3), weight, bias, stride=self.stride, padding=KERNEL // 2)
        return y_BDXY.movedim(-3, -1)


class Convolutions(MLP):
    """The transformer's MLP with convolutions for its matrices."""

    def __init__(self, shape: Shape, architecture: Architecture) -> None:
        super().__init__(shape, architecture)
        d, f, bias = shape.width, shape.ffn, architecture.biases
        self.gate = None if self.gate is None else Conv(d, f, bias=bias)
        self.up, self.down = Conv(d, f, bias=bias), Conv(f, d, bias=bias)


class ResNet(ImageProxy):
    """Pixels [B, T] → logits [B, 1, V]."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        shape, sites = spec.shape, multipliers(spec)
        self.side, self.first, wide = side(shape.context), first_blocks(shape), second_stage(shape)
        stages = [shape] * self.first + [wide] * (shape.depth - self.first)
        self.embedding = Conv(1, shape.width)
        self.blocks = nn.ModuleList(Block(Convolutions(stage, spec.architecture), sites) for stage in stages)
        self.transition = Conv(shape.width, wide.width, stride=2)
        self.norm, self.readout = head(wide.width, spec)

    def observed(self) -> dict[str, list[nn.Module]]:
        """As of every network, but the branches of the two stages apart: they differ in size."""
        found: dict[str, list[nn.Module]] = {}
        for label, modules in super().observed().items():
            if label in ("up", "branch out"):
                stages = {f"{label} 1": modules[: self.first], f"{label} 2": modules[self.first :]}
                found.update({name: stage for name, stage in stages.items() if stage})
            else:
                found[label] = modules
        return found

    def forward(self, ids_BT: Tensor) -> Tensor:
        pixels_BT = self.standardised(ids_BT, window=KERNEL**2)
        x_BXYD = self.embedding(pixels_BT.view(*ids_BT.shape[:-1], self.side, self.side, 1))
        for block in self.blocks[: self.first]:
            x_BXYD = block(x_BXYD)
        x_BXYD = self.transition(x_BXYD)
        for block in self.blocks[self.first :]:
            x_BXYD = block(x_BXYD)
        logits_BV: Tensor = self.readout(self.norm(x_BXYD.mean(dim=(-3, -2))))
        return logits_BV.unsqueeze(-2)
