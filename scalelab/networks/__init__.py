"""The networks of the proxies, in torch. To add one: its class in a file here, a line in `NETWORKS`."""

import torch

from scalelab.errors import Refused
from scalelab.models import inventory
from scalelab.networks.layers import Proxy, fill
from scalelab.networks.transformer import Transformer
from scalelab.parametrizations import table
from scalelab.resolve import settings
from scalelab.spec import RunSpec

NETWORKS: dict[str, type[Proxy]] = {"transformer": Transformer}
UNIT_SCALED: dict[str, type[Proxy]] = {}  # built of unit-scaled operations, for parametrizations that need them


def build(spec: RunSpec, device: str = "cpu") -> Proxy:
    """The initialised network of a spec; `Refused` where there is none for its model and parametrization."""
    inventory(spec)  # refuses an unknown model
    classes = UNIT_SCALED if table(spec.parametrization).unit_scaled else NETWORKS
    if spec.model not in classes:
        raise Refused(
            f"model={spec.model} under {spec.parametrization!r}: its unit-scaled networks are {', '.join(classes)}"
        )
    with torch.device(device):
        network = classes[spec.model](spec)
    fill(network, settings(spec), spec)
    network.tuned(spec)
    return network


__all__ = ["NETWORKS", "UNIT_SCALED", "Proxy", "build"]
