"""The size of a transformer: integers, and the parameter and FLOP counts that follow, each with its convention named.

The literature's laws differ because "N" and "C" do (with or without embeddings, 6N or with attention; see Porian et
al., arXiv:2406.19146). So a count never goes by a bare name here: ask for the one you mean.
"""

from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Literal

from scalelab.errors import Refused, unknown

MLP_KINDS = ("swiglu", "gelu", "relu")
RESIDUAL_INITS = ("plain", "depth-scaled")
Mlp = Literal["swiglu", "gelu", "relu"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What does not change along a family of shapes: the kind of each part, no sizes.

    `zero_init_readout` and `zero_init_query` start those matrices at zero (TP-V App. D.2 recommends both);
    `residual_init` is "plain" or "depth-scaled", GPT-2's 1/sqrt(2·depth) on the matrices that write to the residual
    stream.
    """

    mlp: Mlp = "swiglu"
    tied_head: bool = False
    qk_norm: bool = False
    biases: bool = False
    norm_gains: bool = True
    zero_init_readout: bool = False
    zero_init_query: bool = False
    residual_init: Literal["plain", "depth-scaled"] = "plain"

    def __post_init__(self) -> None:
        if self.mlp not in MLP_KINDS:
            raise unknown("mlp", self.mlp, MLP_KINDS)
        if self.residual_init not in RESIDUAL_INITS:
            raise unknown("residual_init", self.residual_init, RESIDUAL_INITS)
        for name in (field.name for field in fields(self) if field.type is bool):
            if not isinstance(getattr(self, name), bool):
                raise Refused(f"{name}={getattr(self, name)!r}: accepted are true, false")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The integers of a decoder-only transformer.

    `width` is the residual stream, `ffn` the hidden size of the MLP, `kv_heads` the key/value heads of grouped-query
    attention, `context` the tokens a sequence.

    Raises:
        Refused: where a size is not a positive integer or the heads do not fit the width.

    >>> Shape(vocab=256, context=128, width=64, depth=2, heads=2, kv_heads=2, ffn=256).head_dim
    32
    """

    vocab: int
    context: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    ffn: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise Refused(f"{field.name}={value!r}: a shape is made of positive integers")
        if self.width % self.heads:
            raise Refused(f"heads={self.heads} do not divide width={self.width}: try heads={_near_divisor(self)}")
        if self.heads % self.kv_heads:
            raise Refused(f"kv_heads={self.kv_heads} do not divide heads={self.heads}: use a divisor of heads")
        if self.head_dim % 2:
            raise Refused(f"head_dim={self.head_dim} is odd: rotary embeddings rotate pairs, choose an even head_dim")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    def ratio(self, base: "Shape", dimension: str) -> Fraction:
        """Target/base ratio of one named dimension ("width", "ffn", "head_dim", …), exact."""
        return Fraction(getattr(self, dimension), getattr(base, dimension))

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def _near_divisor(shape: Shape) -> int:
    divisors = [n for n in range(1, shape.width + 1) if shape.width % n == 0]
    return min(divisors, key=lambda n: abs(n - shape.heads))


@dataclass(frozen=True, kw_only=True)
class ParamCount:
    """Parameters by convention.

    `embedding` and `readout` are [vocab, width] tables (readout is 0 when tied); `matrices` are the weights of the
    blocks; `vectors` gains and biases, wherever they sit. `non_embedding` leaves out both tables (Kaplan et al.,
    arXiv:2001.08361 §2.1); `total` counts every stored number (Hoffmann et al., arXiv:2203.15556).
    """

    embedding: int
    readout: int
    matrices: int
    vectors: int

    @property
    def non_embedding(self) -> int:
        return self.matrices + self.vectors

    @property
    def total(self) -> int:
        return self.embedding + self.readout + self.matrices + self.vectors


def count_params(shape: Shape, architecture: Architecture) -> ParamCount:
    """Stored parameters of a transformer of that shape.

    >>> shape = Shape(vocab=256, context=128, width=64, depth=2, heads=2, kv_heads=2, ffn=256)
    >>> counted = count_params(shape, Architecture(mlp="gelu"))
    >>> counted.matrices == 12 * shape.depth * shape.width**2, counted.total - counted.non_embedding
    (True, 32768)
    """
    d, f, kv = shape.width, shape.ffn, shape.kv_width
    mlp_matrices = 3 if architecture.mlp == "swiglu" else 2
    block_matrices = 2 * d * d + 2 * d * kv + mlp_matrices * d * f
    vectors = 0
    if architecture.norm_gains:
        vectors += (2 * shape.depth + 1) * d + (2 * shape.depth * shape.head_dim if architecture.qk_norm else 0)
    if architecture.biases:
        vectors += shape.depth * (2 * d + 2 * kv + (mlp_matrices - 1) * f + d)
    table = shape.vocab * d
    return ParamCount(
        embedding=table,
        readout=0 if architecture.tied_head else table,
        matrices=shape.depth * block_matrices,
        vectors=vectors,
    )


@dataclass(frozen=True, kw_only=True)
class FlopCount:
    """Training FLOPs a token (forward and backward, a multiply-add is 2), by convention.

    `six_n_non_embedding`: 6 × non-embedding parameters (Kaplan). `six_n`: 6 × (blocks + readout), the matrices a token
    is multiplied with. `six_n_attention`: that plus 6·depth·context·width for causal attention scores and values, half
    of the full square; this is what scalelab calls a run's cost.
    """

    six_n_non_embedding: int
    six_n: int
    six_n_attention: int


def count_flops_per_token(shape: Shape, architecture: Architecture) -> FlopCount:
    """Training FLOPs for one token of a sequence of `shape.context` tokens."""
    params = count_params(shape, architecture)
    readout = shape.vocab * shape.width  # a tied table is stored once but still multiplied with
    attention = 6 * shape.depth * shape.context * shape.width
    six_n = 6 * (params.matrices + params.vectors + readout)
    return FlopCount(six_n_non_embedding=6 * params.non_embedding, six_n=six_n, six_n_attention=six_n + attention)
