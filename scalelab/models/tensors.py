"""What a model tells the rest about its parameters, without being built: names, roles and dimensions by name."""

from dataclasses import dataclass

from scalelab.parametrizations.table import Role
from scalelab.shape import Shape

LOOKUPS = (Role.EMBEDDING, Role.TIED)  # stored [fan_in, fan_out], one row an entry


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One parameter of a model.

    `fan_in` and `fan_out` are names of dimensions of `Shape` ("width", "ffn", "vocab", …); vectors have no fan_in.
    Stored [fan_out, fan_in], except lookup tables, which are [fan_in, fan_out]. `in_block` says whether it sits in a
    residual block, `writes_residual` whether its output is added to the residual stream, `zero` that it starts at 0.
    """

    name: str
    role: Role
    fan_out: str
    fan_in: str | None = None
    in_block: bool = False
    writes_residual: bool = False
    zero: bool = False

    def size(self, shape: Shape) -> tuple[int, ...]:
        """The stored shape of the tensor in a model of that `shape`."""
        fan_out: int = getattr(shape, self.fan_out)
        if self.fan_in is None:
            return (fan_out,)
        fan_in: int = getattr(shape, self.fan_in)
        return (fan_in, fan_out) if self.role in LOOKUPS else (fan_out, fan_in)
