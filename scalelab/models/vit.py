"""The vision transformer's parameters and their roles; the network itself is `networks.vit`."""

from scalelab.errors import Refused
from scalelab.models import transformer
from scalelab.models.image import side, used
from scalelab.models.tensors import Dim, Dims, Tensor, lookup, matrix
from scalelab.parametrizations.table import Role
from scalelab.shape import Architecture, Shape

PATCH = 2  # pixels a side: 16 patches of an image of 8×8


def tensors(shape: Shape, base: Shape, architecture: Architecture) -> tuple[Tensor, ...]:
    """Every parameter of the encoder, in the order of the forward pass.

    >>> shape = Shape(vocab=17, context=64, width=32, depth=1, heads=1, kv_heads=1, ffn=96)
    >>> found = tensors(shape, shape, Architecture(positions="learned"))
    >>> [(tensor.name, tensor.stored) for tensor in found][:2]
    [('embedding.weight', (32, 4)), ('positions.weight', (16, 32))]
    """
    dims, patches = Dims(shape, base), patches_a_side(shape) ** 2
    found = [matrix("embedding.weight", Dim(PATCH**2, PATCH**2), dims["width"], role=Role.EMBEDDING, in_block=False)]
    if architecture.positions == "learned":
        found.append(lookup("positions.weight", Dim(patches, patches), dims["width"]))
    elif shape.head_dim % 4:
        raise Refused(
            f"head_dim={shape.head_dim}: rotary positions of an image rotate pairs in each direction, choose a multiple"
            " of 4 or positions=learned"
        )
    for block in range(shape.depth):
        found += transformer.attention(f"blocks.{block}.attention", dims, architecture)
        found += transformer.mlp(f"blocks.{block}.mlp", dims, architecture)
    head = used(transformer.head(dims, architecture), 1, shape.context)
    return (*used(found, patches, shape.context), *head)


def patches_a_side(shape: Shape) -> int:
    """How many patches an image is wide and high; `Refused` where they do not cover it."""
    pixels = side(shape.context)
    if pixels % PATCH:
        raise Refused(f"context={shape.context}: images of {pixels}×{pixels} are not whole patches of {PATCH}×{PATCH}")
    return pixels // PATCH
