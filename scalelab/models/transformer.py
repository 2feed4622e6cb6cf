"""The transformer proxy's parameters and their roles; the network itself is in `transformer_net`."""

from scalelab.models.tensors import Tensor
from scalelab.parametrizations.table import Role
from scalelab.shape import Architecture, Shape


def tensors(shape: Shape, architecture: Architecture) -> tuple[Tensor, ...]:
    """Every parameter of the pre-norm decoder, in the order of the forward pass.

    >>> shape = Shape(vocab=256, context=64, width=32, depth=1, heads=1, kv_heads=1, ffn=96)
    >>> [tensor.name for tensor in tensors(shape, Architecture(mlp="gelu", norm_gains=False))][:3]
    ['embedding.weight', 'blocks.0.attention.query.weight', 'blocks.0.attention.key.weight']
    """
    table_role = Role.TIED if architecture.tied_head else Role.EMBEDDING
    found = [Tensor(name="embedding.weight", role=table_role, fan_in="vocab", fan_out="width")]
    for block in range(shape.depth):
        found += _attention(f"blocks.{block}.attention", architecture)
        found += _mlp(f"blocks.{block}.mlp", architecture)
    if architecture.norm_gains:
        found.append(Tensor(name="norm.gain", role=Role.GAIN, fan_out="width"))
    if not architecture.tied_head:
        zero = architecture.zero_init_readout
        found.append(Tensor(name="readout.weight", role=Role.READOUT, fan_in="width", fan_out="vocab", zero=zero))
    return tuple(found)


def _attention(prefix: str, architecture: Architecture) -> list[Tensor]:
    found = []
    if architecture.norm_gains:
        found.append(_gain(f"{prefix}.norm.gain", "width"))
    found += _linear(f"{prefix}.query", "width", "width", architecture, zero=architecture.zero_init_query)
    found += _linear(f"{prefix}.key", "width", "kv_width", architecture)
    found += _linear(f"{prefix}.value", "width", "kv_width", architecture)
    if architecture.qk_norm and architecture.norm_gains:
        found += [_gain(f"{prefix}.query_norm.gain", "head_dim"), _gain(f"{prefix}.key_norm.gain", "head_dim")]
    return found + _linear(f"{prefix}.output", "width", "width", architecture, writes_residual=True)


def _mlp(prefix: str, architecture: Architecture) -> list[Tensor]:
    found = [_gain(f"{prefix}.norm.gain", "width")] if architecture.norm_gains else []
    if architecture.mlp == "swiglu":
        found += _linear(f"{prefix}.gate", "width", "ffn", architecture)
    found += _linear(f"{prefix}.up", "width", "ffn", architecture)
    return found + _linear(f"{prefix}.down", "ffn", "width", architecture, writes_residual=True)


def _linear(
    prefix: str,
    fan_in: str,
    fan_out: str,
    architecture: Architecture,
    *,
    writes_residual: bool = False,
    zero: bool = False,
) -> list[Tensor]:
    weight = Tensor(
        name=f"{prefix}.weight",
        role=Role.HIDDEN,
        fan_in=fan_in,
        fan_out=fan_out,
        in_block=True,
        writes_residual=writes_residual,
        zero=zero,
    )
    bias = Tensor(name=f"{prefix}.bias", role=Role.BIAS, fan_out=fan_out, in_block=True)
    return [weight, bias] if architecture.biases else [weight]


def _gain(name: str, length: str) -> Tensor:
    return Tensor(name=name, role=Role.GAIN, fan_out=length, in_block=True)
