"""The residual MLP's parameters and their roles; the network itself is `networks.mlp`."""

from scalelab.models import transformer
from scalelab.models.image import used
from scalelab.models.tensors import Dims, Tensor, matrix
from scalelab.parametrizations.table import Role
from scalelab.shape import Architecture, Shape


def tensors(shape: Shape, base: Shape, architecture: Architecture) -> tuple[Tensor, ...]:
    """Every parameter of the residual MLP, in the order of the forward pass; all are used once an image.

    >>> shape = Shape(vocab=17, context=64, width=32, depth=1, heads=1, kv_heads=1, ffn=32)
    >>> [tensor.name for tensor in tensors(shape, shape, Architecture(mlp="relu", norm_gains="none"))]
    ['embedding.weight', 'blocks.0.branch.up.weight', 'blocks.0.branch.down.weight', 'readout.weight']
    """
    dims = Dims(shape, base)
    found = [matrix("embedding.weight", dims["context"], dims["width"], role=Role.EMBEDDING, in_block=False)]
    for block in range(shape.depth):
        found += transformer.mlp(f"blocks.{block}.branch", dims, architecture)
    return tuple(used([*found, *transformer.head(dims, architecture)], 1, shape.context))
