"""A run's network on one process of several: whole (DDP) or cut among them (FSDP2), one backward pass or several.

The gradients are those of the loss of the whole batch. Initial values are a function of seed and name, drawn tensor by
tensor, of which a process keeps its part; so nothing depends on how many processes there are, but for rounding.
"""

import inspect
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from scalelab.networks import Proxy, build
from scalelab.networks.moe import Mixture
from scalelab.parallel import Parallel
from scalelab.spec import RunSpec
from scalelab.train.spread.group import Group

# Tables of positions, the same everywhere, are not to be sent with each pass. torch has renamed the argument.
_SENDS = "forward_sync_buffers"
_ACCEPTED = inspect.signature(DistributedDataParallel.__init__).parameters
NO_BUFFERS: dict[str, Any] = {_SENDS if _SENDS in _ACCEPTED else "broadcast_buffers": False}
Losses = tuple[Tensor, Tensor]  # cross-entropy and training loss


class _Terms(nn.Module):
    """What DDP wraps: it looks for the gradients of what its `forward` was called for."""

    def __init__(self, network: Proxy) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens_BT: Tensor) -> Losses:
        return self.network.terms(tokens_BT)


class Spread:
    """The network of a run with this process's parts of its parameters, and its passes over its part of a batch."""

    def __init__(self, spec: RunSpec, parallel: Parallel, group: Group, device: str) -> None:
        self.spec, self.parallel, self.group, self.device = spec, parallel, group, torch.device(device)
        cut = None
        if parallel.name == "fsdp" and group.size > 1:
            cut = partial(_cut, mesh=init_device_mesh(self.device.type, (group.size,)))
        # What is cut is made on the host, where what nobody writes to takes no memory, and goes over block by block.
        self.network = build(spec, "cpu" if cut else device, cut=cut, put=put)
        for module in self.network.modules():
            if isinstance(module, Mixture) and group.size > 1:
                module.pooled = group.mean
        if parallel.activation_checkpointing:
            for block in self._blocks():
                vars(block)["forward"] = partial(
                    checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
                )
        self.whole: DistributedDataParallel | None = None
        if group.size > 1 and cut is None:
            self.whole = DistributedDataParallel(
                _Terms(self.network), device_ids=[self.device] if self.device.type == "cuda" else None,
                gradient_as_bucket_view=True, **NO_BUFFERS,
            )  # fmt: skip

    def _blocks(self) -> list[nn.Module]:
        return list(cast(nn.ModuleList, self.network.blocks))

    def descend(self, tokens_BT: Tensor) -> Losses:
        """The losses of the whole batch, of which these tokens are a part; its gradients are in the parameters."""
        parts = torch.split(tokens_BT, self.parallel.micro_sequences or len(tokens_BT))
        weight = self.network.part_weight(len(parts) * self.group.size) * self.group.size  # DDP and FSDP2 take means
        for parameter in self.network.parameters():
            parameter.grad = None
        found = []
        for at, part in enumerate(parts):
            with self._reducing(last=at == len(parts) - 1):
                with self.precision():
                    mean, loss = self._terms(part)
                (loss if weight == 1.0 else loss * weight).backward()  # type: ignore[no-untyped-call]
            found.append(torch.stack([mean.detach(), loss.detach()]))
        mean, loss = self.group.mean(torch.stack(found).mean(dim=0)).unbind()
        return mean, loss

    def _terms(self, tokens_BT: Tensor) -> Losses:
        if self.whole is None:
            return self.network.terms(tokens_BT)
        return cast(Losses, self.whole(tokens_BT))

    def _reducing(self, *, last: bool) -> AbstractContextManager[None]:
        """DDP adds up on its process until the last pass; FSDP2 has no room for whole gradients, and adds up parts."""
        if self.whole is None or last:
            return nullcontext()
        return cast(AbstractContextManager[None], self.whole.no_sync())

    def precision(self) -> AbstractContextManager[None]:
        """As in a population. FSDP2 gathers float32: what autocast keeps in it (router, norms) is kept in it."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.spec.dtype == "bfloat16",
            cache_enabled=self.parallel.name != "fsdp",  # the casts of what is gathered must not outlive it
        )  # fmt: skip

    @torch.no_grad()
    def losses(self, tokens_BT: Tensor) -> Tensor:
        """Mean cross-entropy of each sequence [B], nats, float64; every process has to ask as often as the others."""
        with self.precision():
            return self.network.losses(tokens_BT)


def _cut(network: Proxy, *, mesh: DeviceMesh) -> None:
    # Logits may be a view; nothing writes to them.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    for block in cast(nn.ModuleList, network.blocks):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


@torch.no_grad()
def put(parameter: Tensor, full: Tensor) -> None:
    """Write a whole tensor to what this process has of a parameter; nothing is sent."""
    parameter.copy_(like(parameter, full))


def like(parameter: Tensor, full: Tensor) -> Tensor:
    """A whole tensor of a parameter's shape as the parameter is kept here: its part of it, or all of it."""
    if not isinstance(parameter, DTensor):
        return full.to(parameter.device)
    return distribute_tensor(
        full.to(parameter.to_local().device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
