"""The proxy models there are. To add one: its parameters in a file here and a line in `MODELS`, then its network."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from scalelab.errors import Refused, unknown
from scalelab.models import mlp, moe, resnet, transformer, vit
from scalelab.models.tensors import Tensor
from scalelab.shape import Architecture, Shape


class Modelled(Protocol):
    """What names a model completely: a `RunSpec`, or anything with these."""

    @property
    def model(self) -> str: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def base(self) -> Shape: ...
    @property
    def architecture(self) -> Architecture: ...


@dataclass(frozen=True, kw_only=True)
class Model:
    """A proxy: what it is and its inventory.

    `pairs` is how many (query, key) pairs its attention scores, as a fraction of context²: ½ for a causal decoder, 0
    without attention. `experts` says whether its blocks may have several, `images` whether it takes records of pixels
    and a label rather than text. `lacks` are the fields of `Architecture` that
    it has no part for: they are refused where they are not left at their default, and are no keys of its configuration.
    """

    title: str
    tensors: Callable[[Shape, Shape, Architecture], tuple[Tensor, ...]]
    pairs: Fraction = Fraction(1, 2)
    experts: bool = False
    images: bool = False
    lacks: tuple[str, ...] = ()

    @property
    def attention(self) -> bool:
        return self.pairs > 0


ATTENTION_ONLY = ("qk_norm", "positions", "attention_scale", "zero_init_query")

MODELS: dict[str, Model] = {
    "transformer": Model(title="pre-norm decoder, the language-model proxy", tensors=transformer.tensors),
    "moe": Model(title="the same with a mixture of experts for each MLP", tensors=moe.tensors, experts=True),
    "mlp": Model(
        title="residual MLP on the pixels of an image",
        tensors=mlp.tensors,
        pairs=Fraction(0),
        images=True,
        lacks=("tied_head", *ATTENTION_ONLY),
    ),
    "resnet": Model(
        title="pre-activation residual convolutions, two stages",
        tensors=resnet.tensors,
        pairs=Fraction(0),
        images=True,
        lacks=("tied_head", *ATTENTION_ONLY),
    ),
    "vit": Model(
        title="vision transformer on 2×2 patches",
        tensors=vit.tensors,
        pairs=Fraction(1, 16),  # a quarter of the pixels either way, and all of them
        images=True,
        lacks=("tied_head",),
    ),
}


def tensors(model: str, shape: Shape, base: Shape, architecture: Architecture) -> tuple[Tensor, ...]:
    """The parameters of a model, in forward order; `Refused` on an unknown model or a part it does not have."""
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    if shape.experts > 1 and not MODELS[model].experts:
        several = ", ".join(name for name, entry in MODELS.items() if entry.experts)
        raise Refused(f"experts={shape.experts} with model={model}, which has none: accepted is model={several}")
    plain = Architecture()
    for name in MODELS[model].lacks:
        if (given := getattr(architecture, name)) != (default := getattr(plain, name)):
            raise Refused(f"{name}={given!r} with model={model}: it has no such part; leave it at {default!r}")
    return MODELS[model].tensors(shape, base, architecture)


def inventory(run: Modelled) -> tuple[Tensor, ...]:
    """The parameters of a run's model, in forward order."""
    return tensors(run.model, run.shape, run.base, run.architecture)
