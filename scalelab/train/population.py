"""Members of one program in step: one forward and backward pass for all, an update for each."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn

from scalelab.networks import Proxy
from scalelab.networks.stack import selected, stacked
from scalelab.spec import RunSpec
from scalelab.train.broadcast import BroadcastAdamW
from scalelab.train.capture import Captured
from scalelab.train.member import Member

Losses = tuple[Tensor, Tensor]  # cross-entropy and training loss, [M] each


class Lone:
    """Somebody else's module as a population of one: it has `loss(ids [B, T+1])` and `losses` as `Proxy` has them.

    The only place where a network without a member dimension is met: it is trained by itself (`stacks` says which).
    """

    def __init__(self, network: Any) -> None:
        self.network = network

    def terms(self, tokens_MBT: Tensor) -> Losses:
        loss = self.network.loss(tokens_MBT[0]).unsqueeze(0)
        return loss, loss

    def losses(self, tokens_MBT: Tensor) -> Tensor:
        return cast(Tensor, self.network.losses(tokens_MBT[0])).unsqueeze(0)


def stacks(network: nn.Module) -> bool:
    """Whether a network has a member dimension: scalelab's own proxies do."""
    return isinstance(network, Proxy)


class Population:
    """M members of one program; no operation reduces over them, so that none is touched by another.

    On a CPU each member has its own torch optimizers, as it has alone. With `broadcast`, which is AdamW's on a GPU, one
    optimizer steps all, and where the network allows it a step is one graph of the device's. `compiled` hands the
    forward and backward pass to torch.compile.
    """

    def __init__(self, members: Sequence[Member], *, broadcast: bool | None = None, compiled: bool = False) -> None:
        self.members = list(members)
        self.stack: Proxy | Lone
        self.optimizer: BroadcastAdamW | None = None
        if stacks(members[0].network):
            self.stack = stacked([cast(Proxy, member.network) for member in members])
        elif len(members) == 1:
            self.stack = Lone(members[0].network)
        else:
            raise RuntimeError("a network without a member dimension is trained alone")
        self.leaves = [] if isinstance(self.stack, Lone) else list(self.stack.parameters())
        self.device = members[0].parameters[0].device
        on_gpu = self.device.type == "cuda" if broadcast is None else broadcast
        if on_gpu and isinstance(self.stack, Proxy) and self.spec.optimizer == "adamw":
            self.optimizer = BroadcastAdamW(self.stack, [member.spec for member in members])
        for place, member in enumerate(members):
            if self.optimizer is None:
                member.step_alone()
            else:
                member.join(self.optimizer, place)
        self.terms = torch.compile(self.stack.terms) if compiled else self.stack.terms
        graphed = self.optimizer is not None and self.device.type == "cuda" and self.spec.model != "moe"
        self.captured = Captured(self._advance) if graphed else None

    @property
    def spec(self) -> RunSpec:
        """The spec of one member, for what all have in common."""
        return self.members[0].spec

    def step(self, tokens_MBT: Tensor) -> Losses:
        """Train every member on its batch; the losses are those before the update."""
        factors = [member.spec.horizon.lr_factor(member.step) for member in self.members]
        if self.optimizer is None:
            losses = self._descend(tokens_MBT)
            self._hand_out()
            for member in self.members:
                member.update()
        else:
            factors_M = torch.tensor(factors, dtype=torch.float32)
            if self.device.type == "cuda":
                factors_M = factors_M.pin_memory().to(self.device, non_blocking=True)
            losses = (self.captured or self._advance)(tokens_MBT, factors_M)
        for member in self.members:
            member.step += 1
        return losses

    def _advance(self, tokens_MBT: Tensor, factors_M: Tensor) -> Losses:
        assert self.optimizer is not None
        losses = self._descend(tokens_MBT)
        self.optimizer.step(factors_M)
        return losses

    def _descend(self, tokens_MBT: Tensor) -> Losses:
        """The losses, and in the gradients those of their sum: each member's are its own."""
        for parameter in itertools.chain(self.leaves, *(member.parameters for member in self.members)):
            parameter.grad = None
        with _precision(self.spec, tokens_MBT.device):
            mean, loss = self.terms(tokens_MBT)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        return mean.detach(), loss.detach()

    def _hand_out(self) -> None:
        """Give each member's network its part of the stack's gradients."""
        for leaf, *own in zip(self.leaves, *(member.parameters for member in self.members), strict=bool(self.leaves)):
            if leaf.grad is not None:
                for parameter, part in zip(own, leaf.grad.unbind(), strict=True):
                    parameter.grad = part

    @torch.no_grad()
    def validate(self, places: Sequence[int], batches: Iterator[Tensor]) -> list[tuple[float, float]]:
        """Mean loss of these members over sequences [B, T+1] and its standard error, nats a token."""
        chosen = self.stack
        if len(places) < len(self.members):
            chosen = selected(cast(Proxy, self.stack), places)
        found = []
        for batch in batches:
            with _precision(self.spec, batch.device):
                found.append(chosen.losses(batch.expand(len(places), *batch.shape)))
        return [mean_and_error(row) for row in torch.cat(found, dim=1).cpu()]


def mean_and_error(losses: Tensor) -> tuple[float, float]:
    error = losses.std().item() / len(losses) ** 0.5 if len(losses) > 1 else float("nan")
    return losses.mean().item(), error


def _precision(spec: RunSpec, device: torch.device) -> AbstractContextManager[None]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=spec.dtype == "bfloat16")
