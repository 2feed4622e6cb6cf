"""The networks of the proxies, in torch. To add one: its class in a file here, a line in `NETWORKS`."""

import torch

from scalelab.models import inventory
from scalelab.networks.layers import Proxy, fill
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


def build(spec: RunSpec, device: str = "cpu") -> Proxy:
    """The initialised network of a spec; `Refused` where its model is unknown."""
    inventory(spec)  # refuses an unknown model
    classes = UNIT_SCALED if table(spec.parametrization).unit_scaled else NETWORKS
    with torch.device(device):
        network = classes[spec.model](spec)
    fill(network, settings(spec), spec)
    network.tuned(spec)
    return network


__all__ = ["NETWORKS", "UNIT_SCALED", "Proxy", "build"]
