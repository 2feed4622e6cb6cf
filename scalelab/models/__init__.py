"""Proxy models. `MODELS` lists what each one's parameters are, without torch; `build` makes the network."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from scalelab.errors import unknown
from scalelab.models import transformer
from scalelab.models.tensors import Tensor
from scalelab.shape import Architecture, Shape

if TYPE_CHECKING:
    from torch import nn

    from scalelab.spec import RunSpec

Inventory = Callable[[Shape, Architecture], tuple[Tensor, ...]]

MODELS: dict[str, Inventory] = {"transformer": transformer.tensors}


def inventory(spec: "RunSpec") -> tuple[Tensor, ...]:
    """The parameters of the model a spec names, in forward order; `Refused` on an unknown model."""
    if spec.model not in MODELS:
        raise unknown("model", spec.model, MODELS)
    return MODELS[spec.model](spec.shape, spec.architecture)


def build(spec: "RunSpec", device: str = "cpu") -> "nn.Module":
    """The initialised network of a spec (imports torch)."""
    import importlib

    inventory(spec)  # refuses an unknown model before torch is imported
    module = importlib.import_module(f"scalelab.models.{spec.model}_net")
    network: nn.Module = module.build(spec, device)
    return network
