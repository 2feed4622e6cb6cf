"""Two processes on gloo: DDP and FSDP2 train the trajectory of one process, grouped before or after they wrap."""

import socket
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import scalelab
from tests.modules.models import LM, ids, lm_loss, seeded

WORLD, STEPS = 2, 4


def parametrized(model: nn.Module | None = None) -> scalelab.Parametrized:
    """Grouped-query attention, depth, a query factor, a tied head: every kind of multiplier there is."""
    return scalelab.parametrize(
        model or build(), "completep", base=seeded(LM, 16, 2, heads=2, kv_heads=1, tied=True, seed=1),
        residual=("blocks.*.o_proj", "blocks.*.down"), query=("*.q_proj",),
    )  # fmt: skip


def build() -> nn.Module:
    return seeded(LM, 64, 4, heads=4, kv_heads=2, tied=True)


def steps(model: nn.Module, groups: list[dict[str, object]], rank: int, world: int) -> list[float]:
    """Mean losses over processes; each sees its part of the batch, and gradients are means over processes."""
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = lm_loss(model, ids(4, step).chunk(world)[rank])
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        if world > 1:
            dist.all_reduce(mean)
        losses.append(mean.item() / world)
    return losses


def ddp(rank: int) -> list[float]:
    found = parametrized()
    wrapped = DistributedDataParallel(found.model)
    groups = found.groups(lr=0.02, weight_decay=0.1, model=wrapped)  # names with module. before them
    assert [g["names"] for g in groups] == [g["names"] for g in found.groups(lr=0.02, weight_decay=0.1)]
    return steps(wrapped, groups, rank, WORLD)


def sharded(model: nn.Module) -> nn.Module:
    for block in model.blocks:  # type: ignore[union-attr]
        fully_shard(block)
    fully_shard(model)
    return model


def fsdp(rank: int) -> list[float]:
    found = parametrized()
    before = found.groups(lr=0.02, weight_decay=0.1)
    sharded(found.model)
    groups = found.groups(lr=0.02, weight_decay=0.1)
    keys = ("names", "lr", "weight_decay", "eps", "role", "family")
    assert [[g[k] for k in keys] for g in groups] == [[g[k] for k in keys] for g in before]
    assert all(isinstance(parameter, DTensor) for group in groups for parameter in group["params"])
    return steps(found.model, groups, rank, WORLD)


def fsdp_first(rank: int) -> list[float]:
    found, whole = parametrized(sharded(build())), parametrized()  # the init of shards is rescaled as one tensor
    assert [s.init_std for s in found.settings] == pytest.approx([s.init_std for s in whole.settings], rel=1e-6)
    return steps(found.model, found.groups(lr=0.02, weight_decay=0.1), rank, WORLD)


RUNS: tuple[Callable[[int], list[float]], ...] = (ddp, fsdp, fsdp_first)


def _process(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    losses = {run.__name__: run(rank) for run in RUNS}
    if rank == 0:
        torch.save(losses, out)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """Of every way to wrap, in one pair of processes: most of their time is importing torch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path_factory.mktemp("losses") / "losses.pt"
    multiprocessing.spawn(_process, args=(port, str(out)), nprocs=WORLD)
    found: dict[str, list[float]] = torch.load(out)
    return found


@pytest.mark.parametrize("name", [run.__name__ for run in RUNS])
def test_two_processes_train_as_one(name: str, losses: dict[str, list[float]]) -> None:
    alone = parametrized()
    expected = steps(alone.model, alone.groups(lr=0.02, weight_decay=0.1), 0, 1)
    assert losses[name] == pytest.approx(expected, rel=1e-4)
    assert expected[-1] < expected[0]
