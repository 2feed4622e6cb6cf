"""The residual convolutional network's parameters and their roles; the network itself is `networks.resnet`.

Two stages: blocks of `width` channels on the whole image, a transition to half its side and twice the channels, and
blocks of those. `depth` counts the blocks of both; with an odd one the first stage has one more.
"""

from dataclasses import replace

from scalelab.models import transformer
from scalelab.models.image import side, used
from scalelab.models.tensors import Dim, Dims, Tensor, conv, gain
from scalelab.parametrizations.table import Role
from scalelab.shape import Architecture, Shape

KERNEL = 3
WIDER = 2  # the second stage's channels, by the first's: half the side and twice the width, as in arXiv:1512.03385


def tensors(shape: Shape, base: Shape, architecture: Architecture) -> tuple[Tensor, ...]:
    """Every parameter of the network, in the order of the forward pass.

    >>> shape = Shape(vocab=17, context=64, width=32, depth=2, heads=1, kv_heads=1, ffn=32)
    >>> found = {tensor.name: tensor for tensor in tensors(shape, shape, Architecture(mlp="relu"))}
    >>> found["blocks.1.branch.up.weight"].stored, found["blocks.1.branch.up.weight"].fan_in.size
    ((64, 64, 3, 3), 576)
    """
    whole, half = shape.context, ((side(shape.context) + 1) // 2) ** 2
    first, second = Dims(shape, base), Dims(second_stage(shape), second_stage(base))
    stem = conv("embedding", Dim(1, 1), first["width"], kernel=KERNEL, role=Role.EMBEDDING, in_block=False)
    found = used(stem, whole, whole)
    for block in range(first_blocks(shape)):
        found += used(convolutions(f"blocks.{block}.branch", first, architecture), whole, whole)
    transition = conv("transition", first["width"], second["width"], kernel=KERNEL, in_block=False)
    found += used(transition, half, whole)
    for block in range(first_blocks(shape), shape.depth):
        found += used(convolutions(f"blocks.{block}.branch", second, architecture), half, whole)
    return (*found, *used(transformer.head(second, architecture), 1, whole))


def first_blocks(shape: Shape) -> int:
    """How many of the blocks are in the first stage."""
    return (shape.depth + 1) // 2


def second_stage(shape: Shape) -> Shape:
    """The shape as the second stage has it."""
    return replace(shape, width=WIDER * shape.width, ffn=WIDER * shape.ffn)


def convolutions(prefix: str, dims: Dims, architecture: Architecture) -> list[Tensor]:
    """A residual branch: the transformer's MLP with convolutions for its matrices."""
    bias, width, ffn = architecture.biases, dims["width"], dims["ffn"]
    found = gain(f"{prefix}.norm", width, architecture.norm_gains)
    if architecture.mlp == "swiglu":
        found += conv(f"{prefix}.gate", width, ffn, kernel=KERNEL, bias=bias)
    found += conv(f"{prefix}.up", width, ffn, kernel=KERNEL, bias=bias)
    return found + conv(f"{prefix}.down", ffn, width, kernel=KERNEL, bias=bias, writes_residual=True)
