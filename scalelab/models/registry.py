"""The proxy models there are. To add one: its parameters in a file here and a line in `MODELS`, then its network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from scalelab.errors import unknown
from scalelab.models import transformer
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
    """A proxy: what it is, its inventory, and whether it has attention (heads, and the FLOPs of their scores)."""

    title: str
    tensors: Callable[[Shape, Shape, Architecture], tuple[Tensor, ...]]
    attention: bool = True


MODELS: dict[str, Model] = {
    "transformer": Model(title="pre-norm decoder, the language-model proxy", tensors=transformer.tensors),
}


def tensors(model: str, shape: Shape, base: Shape, architecture: Architecture) -> tuple[Tensor, ...]:
    """The parameters of a model, in forward order; `Refused` on an unknown model or a part it does not have."""
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    return MODELS[model].tensors(shape, base, architecture)


def inventory(run: Modelled) -> tuple[Tensor, ...]:
    """The parameters of a run's model, in forward order."""
    return tensors(run.model, run.shape, run.base, run.architecture)
