"""The transformer proxy's parameters and their roles; the network itself is `networks.transformer`."""

from scalelab.errors import Refused
from scalelab.models.tensors import Dims, Tensor, gain, linear, lookup, matrix
from scalelab.parametrizations.table import Role
from scalelab.shape import Architecture, Shape

ROPE_THETA = 10_000.0  # RoFormer, arXiv:2104.09864 §3.2.2


def tensors(shape: Shape, base: Shape, architecture: Architecture) -> tuple[Tensor, ...]:
    """Every parameter of the pre-norm decoder, in the order of the forward pass.

    >>> shape = Shape(vocab=256, context=64, width=32, depth=1, heads=1, kv_heads=1, ffn=96)
    >>> [tensor.name for tensor in tensors(shape, shape, Architecture(mlp="gelu", norm_gains="none"))][:3]
    ['embedding.weight', 'blocks.0.attention.query.weight', 'blocks.0.attention.key.weight']
    """
    dims = Dims(shape, base)
    found = embeddings(dims, architecture)
    for block in range(shape.depth):
        found += attention(f"blocks.{block}.attention", dims, architecture)
        found += mlp(f"blocks.{block}.mlp", dims, architecture)
    return (*found, *head(dims, architecture))


def embeddings(dims: Dims, architecture: Architecture) -> list[Tensor]:
    """The token table and, where positions are learned, theirs."""
    role = Role.TIED if architecture.tied_head else Role.EMBEDDING
    found = [lookup("embedding.weight", dims["vocab"], dims["width"], role=role)]
    if architecture.positions == "learned":
        found.append(lookup("positions.weight", dims["context"], dims["width"]))
    elif dims.shape.head_dim % 2:
        raise Refused(f"head_dim={dims.shape.head_dim} is odd: rotary embeddings rotate pairs, choose an even head_dim")
    return found


def attention(prefix: str, dims: Dims, architecture: Architecture) -> list[Tensor]:
    """Grouped-query attention with its norm."""
    bias, width, gains = architecture.biases, dims["width"], architecture.norm_gains
    found = gain(f"{prefix}.norm", width, gains)
    found += linear(f"{prefix}.query", width, width, bias=bias, zero=architecture.zero_init_query)
    found += linear(f"{prefix}.key", width, dims["kv_width"], bias=bias)
    found += linear(f"{prefix}.value", width, dims["kv_width"], bias=bias)
    if architecture.qk_norm:
        found += gain(f"{prefix}.query_norm", dims["head_dim"], gains)
        found += gain(f"{prefix}.key_norm", dims["head_dim"], gains)
    return found + linear(f"{prefix}.output", width, width, bias=bias, writes_residual=True)


def mlp(prefix: str, dims: Dims, architecture: Architecture) -> list[Tensor]:
    """The MLP with its norm; SwiGLU has a gate beside `up`."""
    bias, width, ffn = architecture.biases, dims["width"], dims["ffn"]
    found = gain(f"{prefix}.norm", width, architecture.norm_gains)
    if architecture.mlp == "swiglu":
        found += linear(f"{prefix}.gate", width, ffn, bias=bias)
    found += linear(f"{prefix}.up", width, ffn, bias=bias)
    return found + linear(f"{prefix}.down", ffn, width, bias=bias, writes_residual=True)


def head(dims: Dims, architecture: Architecture) -> list[Tensor]:
    """The last norm, and the readout unless the embedding is it."""
    found = gain("norm", dims["width"], architecture.norm_gains, in_block=False)
    if architecture.tied_head:
        return found
    zero = architecture.zero_init_readout
    weight = matrix("readout.weight", dims["width"], dims["vocab"], role=Role.READOUT, in_block=False, zero=zero)
    return [*found, weight]
