"""The mixture-of-experts proxy's parameters and their roles; the network itself is `networks.moe`."""

from dataclasses import replace
from fractions import Fraction

from scalelab.errors import Refused
from scalelab.models.tensors import Dim, Dims, Tensor, gain, matrix
from scalelab.models.transformer import attention, embeddings, head
from scalelab.parametrizations.table import Role
from scalelab.shape import Architecture, Shape


def tensors(shape: Shape, base: Shape, architecture: Architecture) -> tuple[Tensor, ...]:
    """Every parameter of the pre-norm decoder whose MLPs are mixtures of experts, in the order of the forward pass.

    >>> shape = Shape(vocab=256, context=64, width=32, depth=1, heads=1, kv_heads=1, ffn=96, experts=8, top_k=2)
    >>> [tensor.stored for tensor in tensors(shape, shape, Architecture(mlp="gelu"))][-5:-2]
    [(8, 32), (8, 96, 32), (8, 32, 96)]
    """
    if architecture.biases:
        raise Refused("biases=true with model=moe: its experts have none, use biases=false")
    if shape.top_k == 1 < shape.experts:
        raise Refused(
            f"top_k=1 of experts={shape.experts}: weights renormalised over one expert are 1 whatever the router says,"
            " and it learns nothing from the loss; use top_k=2 or more"
        )
    dims = Dims(shape, base)
    found = embeddings(dims, architecture)
    for block in range(shape.depth):
        found += attention(f"blocks.{block}.attention", dims, architecture)
        found += mixture(f"blocks.{block}.mlp", dims, architecture)
    return (*found, *head(dims, architecture))


def mixture(prefix: str, dims: Dims, architecture: Architecture) -> list[Tensor]:
    """The norm, the router, and the experts in stacks; SwiGLU has a gate beside `up`."""
    width, ffn = dims["width"], dims["ffn"]
    found = gain(f"{prefix}.norm", width, architecture.norm_gains)
    found.append(matrix(f"{prefix}.router.weight", width, dims["experts"], role=Role.ROUTER))
    if architecture.mlp == "swiglu":
        found.append(stack(f"{prefix}.experts.gate.weight", dims, width, ffn))
    found.append(stack(f"{prefix}.experts.up.weight", dims, width, ffn))
    return [*found, stack(f"{prefix}.experts.down.weight", dims, ffn, width, writes_residual=True)]


def stack(name: str, dims: Dims, fan_in: Dim, fan_out: Dim, *, writes_residual: bool = False) -> Tensor:
    """One matrix of every expert, stored [experts, fan_out, fan_in]; its dimensions are those of one expert."""
    experts, top_k = dims.shape.experts, dims.shape.top_k
    one = matrix(name, fan_in, fan_out, role=Role.EXPERT, writes_residual=writes_residual)
    return replace(one, stored=(experts, *one.stored), uses=Fraction(top_k, experts))
