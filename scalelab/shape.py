"""What a proxy is made of: the kinds of its parts (`Architecture`) and its sizes (`Shape`). Counts: `models.counts`."""

from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from functools import cache
from typing import Literal

from scalelab.errors import Refused, unknown

CHOICES: dict[str, tuple[str, ...]] = {
    "mlp": ("swiglu", "gelu", "relu", "squared_relu"),
    "norm_gains": ("vector", "scalar", "none"),
    "positions": ("rotary", "learned"),
    "attention_scale": ("table", "sqrt"),
    "readout_init": ("table", "fan_in"),
    "residual_init": ("plain", "depth-scaled"),
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What does not change along a family of shapes: the kind of each part, no sizes.

    `norm_gains` are "vector" (one a channel), "scalar" (one a norm) or "none". `attention_scale` "table" leaves the
    softmax scale to the parametrization, "sqrt" holds SP's 1/√d_head under any table; `readout_init` "fan_in" holds
    SP's readout init likewise: two of the variations of "A large-scale exploration of µ-transfer" (arXiv:2404.05728).
    `zero_init_readout` and `zero_init_query` start those matrices at zero (TP-V App. D.2 recommends both);
    `residual_init` is "plain" or "depth-scaled", GPT-2's 1/sqrt(2·depth) on the matrices that write to the residual
    stream. A model that has no such part ignores none of these silently: it refuses what it cannot build.
    """

    mlp: Literal["swiglu", "gelu", "relu", "squared_relu"] = "swiglu"
    tied_head: bool = False
    qk_norm: bool = False
    biases: bool = False
    norm_gains: Literal["vector", "scalar", "none"] = "vector"
    positions: Literal["rotary", "learned"] = "rotary"
    attention_scale: Literal["table", "sqrt"] = "table"
    readout_init: Literal["table", "fan_in"] = "table"
    zero_init_readout: bool = False
    zero_init_query: bool = False
    residual_init: Literal["plain", "depth-scaled"] = "plain"

    def __post_init__(self) -> None:
        for name, accepted in CHOICES.items():
            if getattr(self, name) not in accepted:
                raise unknown(name, getattr(self, name), accepted)
        for name in (field.name for field in fields(self) if field.type is bool):
            if not isinstance(getattr(self, name), bool):
                raise Refused(f"{name}={getattr(self, name)!r}: accepted are true, false")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The integers of a proxy.

    `width` is the residual stream (channels of a convolutional network), `ffn` the hidden size of the MLP (of one
    expert), `kv_heads` the key/value heads of grouped-query attention, `context` the tokens a sequence (pixels an
    image), `experts` the experts of a block, of which each token meets `top_k`.

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
    experts: int = 1
    top_k: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise Refused(f"{field.name}={value!r}: a shape is made of positive integers")
        if self.width % self.heads:
            raise Refused(f"heads={self.heads} do not divide width={self.width}: try heads={_near_divisor(self)}")
        if self.heads % self.kv_heads:
            raise Refused(f"kv_heads={self.kv_heads} do not divide heads={self.heads}: use a divisor of heads")
        if self.top_k > self.experts:
            raise Refused(f"top_k={self.top_k} of experts={self.experts}: a token meets some of the experts, or all")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    def ratio(self, base: "Shape", dimension: str) -> Fraction:
        """Target/base ratio of one named dimension ("width", "ffn", "head_dim", …), exact."""
        return Fraction(getattr(self, dimension), getattr(base, dimension))

    @classmethod
    @cache
    def unit(cls) -> "Shape":
        """The shape of ones: the base of a parametrization that has none (u-muP), where ratios are the sizes."""
        return cls(vocab=1, context=1, width=1, depth=1, heads=1, kv_heads=1, ffn=1)

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def _near_divisor(shape: Shape) -> int:
    divisors = [n for n in range(1, shape.width + 1) if shape.width % n == 0]
    return min(divisors, key=lambda n: abs(n - shape.heads))
