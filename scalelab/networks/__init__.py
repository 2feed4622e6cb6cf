"""The networks of the proxies, in torch. To add one: its class in a file here, a line in `NETWORKS`."""

from collections.abc import Callable

import torch
from torch import Tensor

from scalelab.models import inventory
from scalelab.networks.layers import Proxy, Put, fill
from scalelab.networks.mlp import ResidualMLP
from scalelab.networks.moe import MoE
from scalelab.networks.resnet import ResNet
from scalelab.networks.transformer import Transformer
from scalelab.networks.unit_transformer import UnitTransformer
from scalelab.networks.vit import ViT
from scalelab.parametrizations import table
from scalelab.resolve import settings
from scalelab.spec import RunSpec

NETWORKS: dict[str, type[Proxy]] = {
    "transformer": Transformer, "moe": MoE, "mlp": ResidualMLP, "resnet": ResNet, "vit": ViT,
}  # fmt: skip
UNIT_SCALED: dict[str, type[Proxy]] = {
    "transformer": UnitTransformer
}  # built of unit-scaled operations, for parametrizations that need them


def build(
    spec: RunSpec, device: str = "cpu", *, cut: Callable[[Proxy], None] | None = None, put: Put = Tensor.copy_
) -> Proxy:
    """The initialised network of a spec; `Refused` where its model is unknown.

    `cut` may leave a process only its parts of the parameters, to which `put` then writes their initial values.
    """
    inventory(spec)  # refuses an unknown model
    classes = UNIT_SCALED if table(spec.parametrization).unit_scaled else NETWORKS
    with torch.device(device):
        network = classes[spec.model](spec)
    if cut is not None:
        cut(network)
    fill(network, settings(spec), spec, put)
    network.tuned(spec)
    return network


__all__ = ["NETWORKS", "UNIT_SCALED", "Proxy", "build"]
