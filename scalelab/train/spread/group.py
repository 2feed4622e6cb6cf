"""The processes that train one run together: who this one is among them, and what they tell each other.

They agree on everything by messages, never by each looking for itself: rank 0's clock, rank 0's files. Whoever waits in
vain for another gives up after `GROUP_SECONDS`, and torchrun ends all when one has ended.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from scalelab.parallel import by_torchrun

GROUP_SECONDS = float(os.environ.get("SCALELAB_GROUP_SECONDS", "600"))  # for which a message is waited for


@dataclass(frozen=True, kw_only=True)
class Group:
    """This process among `size`; alone, it agrees with itself."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether a process has it."""
        if self.size == 1:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def total(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        found = values.clone()
        if self.size > 1:
            dist.all_reduce(found)
        return found

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        return self.total(values) / self.size

    def told(self, text: str = "") -> str:
        """What rank 0 says."""
        said = [text]
        if self.size > 1:
            dist.broadcast_object_list(said, src=0)
        return said[0]

    def gathered(self, text: str) -> list[str]:
        """What each says, in the order of the ranks, for all."""
        found = [text] * self.size
        if self.size > 1:
            dist.all_gather_object(found, text)
        return found


def joined() -> Group:
    """The group of the processes that torchrun started with this one, joined at the first call; else this one alone."""
    if not by_torchrun():
        return Group()
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=GROUP_SECONDS))
    return Group(rank=dist.get_rank(), size=dist.get_world_size())


def is_joined() -> bool:
    """Whether this process has joined its group."""
    return dist.is_initialized()


@contextmanager
def left() -> Iterator[None]:
    """Leave the group at the end, if it was joined; not where something went wrong: it may be broken then."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def own_device(device: str) -> str:
    """The device of this process: of several on one machine, each has its own GPU."""
    if device == "cuda" and by_torchrun():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    return device
