"""What a model tells the rest about its parameters, without being built: names, roles, sizes at target and base."""

from dataclasses import dataclass, replace
from fractions import Fraction

from scalelab.parametrizations.table import Role
from scalelab.scale import Ratios
from scalelab.shape import Shape

NORM_EPS = 1e-6  # of every RMSNorm: Llama's


@dataclass(frozen=True)
class Dim:
    """One dimension of a tensor: its size at the target and at the base."""

    size: int
    base: int

    @property
    def ratio(self) -> Fraction:
        return Fraction(self.size, self.base)

    def times(self, count: int) -> "Dim":
        """The dimension with `count` fixed elements for each of its own (the kernel of a convolution)."""
        return Dim(self.size * count, self.base * count)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One parameter of a model.

    `stored` is its shape in the network; `fan_in` and `fan_out` are the dimensions it maps from and to (vectors have no
    fan_in). `in_block` says whether it sits in a residual block, `writes_residual` whether its output is added to the
    residual stream, `zero` that it starts at 0; `uses` is how often a token is multiplied with it (0 for a table that
    is looked up, top_k/experts for an expert).
    """

    name: str
    role: Role
    stored: tuple[int, ...]
    fan_out: Dim
    fan_in: Dim | None = None
    in_block: bool = False
    writes_residual: bool = False
    zero: bool = False
    uses: Fraction = Fraction(1)

    def ratios(self, scales: Ratios) -> Ratios:
        """The ratios a rule is evaluated on: this tensor's own dimensions, and the run's `scales` for the rest."""
        return replace(
            scales,
            fan_in=self.fan_in.ratio if self.fan_in else Fraction(1),
            fan_out=self.fan_out.ratio,
            depth=scales.depth if self.in_block else Fraction(1),
            base_fan_in=self.fan_in.base if self.fan_in else 1,
            base_fan_out=self.fan_out.base,
        )

    @property
    def numel(self) -> int:
        count = 1
        for size in self.stored:
            count *= size
        return count


@dataclass(frozen=True)
class Dims:
    """The named dimensions of a pair of shapes: `dims["width"]` is Dim(target's, base's)."""

    shape: Shape
    base: Shape

    def __getitem__(self, name: str) -> Dim:
        return Dim(getattr(self.shape, name), getattr(self.base, name))


def matrix(
    name: str,
    fan_in: Dim,
    fan_out: Dim,
    *,
    role: Role = Role.HIDDEN,
    in_block: bool = True,
    writes_residual: bool = False,
    zero: bool = False,
) -> Tensor:
    """A linear map's weight, stored [fan_out, fan_in]."""
    return Tensor(
        name=name, role=role, stored=(fan_out.size, fan_in.size), fan_in=fan_in, fan_out=fan_out, in_block=in_block,
        writes_residual=writes_residual, zero=zero,
    )  # fmt: skip


def conv(
    prefix: str,
    fan_in: Dim,
    fan_out: Dim,
    *,
    kernel: int,
    role: Role = Role.HIDDEN,
    in_block: bool = True,
    bias: bool = False,
    writes_residual: bool = False,
) -> list[Tensor]:
    """A convolution's weight, stored [fan_out, fan_in, kernel, kernel], and its bias where it has one.

    It maps a window of kernel² pixels, so that many times the input's channels are its fan_in.
    """
    weight = Tensor(
        name=f"{prefix}.weight", role=role, stored=(fan_out.size, fan_in.size, kernel, kernel),
        fan_in=fan_in.times(kernel**2), fan_out=fan_out, in_block=in_block, writes_residual=writes_residual,
    )  # fmt: skip
    return [weight, vector(f"{prefix}.bias", fan_out, role=Role.BIAS, in_block=in_block)] if bias else [weight]


def lookup(name: str, entries: Dim, width: Dim, *, role: Role = Role.EMBEDDING) -> Tensor:
    """A table of vectors, stored [entries, width]; a tied one is multiplied with where it reads out."""
    uses = Fraction(int(role is Role.TIED))
    return Tensor(name=name, role=role, stored=(entries.size, width.size), fan_in=entries, fan_out=width, uses=uses)


def vector(name: str, length: Dim, *, role: Role, in_block: bool = True) -> Tensor:
    """A gain or a bias, stored [length]."""
    return Tensor(name=name, role=role, stored=(length.size,), fan_out=length, in_block=in_block)


def gain(prefix: str, length: Dim, kind: str, *, in_block: bool = True) -> list[Tensor]:
    """The learned gain of a norm over `length` channels: a vector, one scalar, or none."""
    if kind == "none":
        return []
    if kind == "scalar":
        return [vector(f"{prefix}.gain", Dim(1, 1), role=Role.SCALAR, in_block=in_block)]
    return [vector(f"{prefix}.gain", length, role=Role.GAIN, in_block=in_block)]


def linear(
    prefix: str, fan_in: Dim, fan_out: Dim, *, bias: bool, writes_residual: bool = False, zero: bool = False
) -> list[Tensor]:
    """A block's linear layer: its weight, and its bias where it has one."""
    weight = matrix(f"{prefix}.weight", fan_in, fan_out, writes_residual=writes_residual, zero=zero)
    return [weight, vector(f"{prefix}.bias", fan_out, role=Role.BIAS)] if bias else [weight]
