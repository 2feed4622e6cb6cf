"""What is run in two processes by the tests of `train.spread`, and by one as its oracle."""

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.distributed.tensor import DTensor

from scalelab import stopping
from scalelab.networks import Proxy, build
from scalelab.networks.moe import Mixture
from scalelab.networks.stack import constants
from scalelab.parallel import Parallel
from scalelab.spec import RunSpec
from scalelab.train.batches import Batches, corpus_of
from scalelab.train.member import Member
from scalelab.train.spread import network
from scalelab.train.spread.group import Group, joined
from scalelab.train.spread.loop import SpreadLoop
from scalelab.train.watch import Watch
from tests.conftest import make_spec
from tests.train.running import Recorder, of_model, to_horizon

WORLD = 2
STEPS, FEW = 20, 6  # in float32, in float64
WHOLE, CUT = Parallel(name="ddp", processes=WORLD), Parallel(name="fsdp", processes=WORLD)
SMALL = Parallel(micro_sequences=1, activation_checkpointing=True)


def smaller(parallel: Parallel) -> Parallel:
    """The same in the least memory."""
    return replace(parallel, micro_sequences=1, activation_checkpointing=True)


def spread_specs() -> dict[str, RunSpec]:
    """Runs of every kind of tensor and multiplier, of few tokens; by name."""
    tuned = {"attention_multiplier": 2.0, "residual_multiplier": 0.7, "logits_multiplier": 3.0, "clip_norm": 0.05}
    given: dict[str, Any] = {"width": 32, "base_width": 16, "tokens": 64 * FEW, "hparams": tuned}
    moe = {"sizes": {"experts": 4, "top_k": 2}, "width": 32, "base_width": 16, "tokens": 64 * FEW}
    return {
        "sp": make_spec("sp", **given),
        "mup": make_spec("mup", **given, schedule="cosine"),
        "completep": make_spec("completep", depth=4, **given),
        "u_mup": to_horizon(of_model("u_mup", hparams={"clip_norm": 0.01}), FEW),
        "moe": make_spec("mup", model="moe", **moe, hparams={"balance_loss": 0.5}),
        "mlp": to_horizon(of_model("mlp"), FEW),
    }


@dataclass(frozen=True)
class Walk:
    """What a run did in its first steps: its losses, the norm of its first gradient, its validation loss."""

    losses: list[float]
    norm: float
    validation: tuple[float, float]


@contextmanager
def doubled() -> Iterator[None]:
    """Networks in float64, of the same initial values."""

    def build_double(spec: RunSpec, device: str, *, cut: Any, put: Any) -> Proxy:
        def cut_double(made: Proxy) -> None:
            made.double()
            if cut is not None:
                cut(made)

        return build(spec, device, cut=cut_double, put=put)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "build", build_double)
        yield


def trajectory(
    spec: RunSpec, parallel: Parallel, group: Group, *, part: int | None = None, pooled: bool = True
) -> Walk:
    """Train a run in float64.

    Wrongly, where `part` is not the part of the batch that is this process's, or nothing is `pooled` in a mixture.
    """
    loop = SpreadLoop(spec=spec, watch=Watch(), parallel=parallel, group=group, device="cpu")
    loop.batches = Batches(corpus_of(spec), spec, "cpu", part=(group.rank if part is None else part, group.size))
    with doubled():
        loop.spread = network.Spread(spec, parallel, group, "cpu")
    for module in [] if pooled else loop.spread.network.modules():
        if isinstance(module, Mixture):
            module.pooled = None
    torch.set_default_dtype(torch.float64)  # of pixels
    try:
        return _walked(loop)
    finally:
        torch.set_default_dtype(torch.float32)


def _walked(loop: SpreadLoop) -> Walk:
    member = Member(index=0, spec=loop.spec, network=loop.spread.network)
    member.step_alone()
    losses, norm = [], 0.0
    while not member.ended:
        _, loss = loop.spread.descend(loop.batches.at([member])[0])
        if member.step == 0:
            found = torch.nn.utils.get_total_norm([p.grad for p in member.parameters if p.grad is not None])
            norm = (found.full_tensor() if isinstance(found, DTensor) else found).item()
        member.update()
        member.step += 1
        losses.append(loss.item())
    return Walk(losses, norm, loop.validation())


def trained(
    spec: RunSpec, parallel: Parallel, group: Group, *, checkpoint: Path | None, stop: int | None = None
) -> Any:
    """A run by the loop: its trial and curve; None where it was asked to stop, on the last rank, after `stop` steps."""
    told = Recorder()
    watch = Watch(observers=[told] if group.leads else (), checkpoint=checkpoint)
    count = itertools.count()

    def asked() -> bool:
        return group.rank == group.size - 1 and next(count) == stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "asked", asked)
        try:
            trial = SpreadLoop(spec=spec, watch=watch, parallel=parallel, group=group, device="cpu").run()
        except stopping.Stopped:
            return None, told.curve
    return trial, told.curve


def read_back(spec: RunSpec, group: Group) -> None:
    """That a network that is cut among processes is the one that is not: values, multipliers, groups."""
    cut, one = (network.Spread(spec, parallel, which, "cpu") for parallel, which in ((CUT, group), (SMALL, Group())))
    own, theirs = (dict(each.network.named_parameters()) for each in (cut, one))
    assert own.keys() == theirs.keys()
    assert any(value.to_local().numel() < theirs[name].numel() for name, value in own.items())
    for name, value in own.items():
        assert isinstance(value, DTensor) and torch.equal(value.full_tensor(), theirs[name]), name
    for mine, other in zip(cut.network.modules(), one.network.modules(), strict=True):
        assert [getattr(mine, key) for key in constants(mine)] == [getattr(other, key) for key in constants(other)]
    members = [Member(index=0, spec=spec, network=each.network) for each in (cut, one)]
    keys = ("names", "lr", "peak_lr", "weight_decay", "eps", "family", "betas", "momentum")
    for member in members:
        member.step_alone()
    mine_groups, other_groups = (
        [[group.get(key) for key in keys] for optim in member.optims for group in optim.param_groups]
        for member in members
    )
    assert mine_groups == other_groups


def in_two(work: Any, *arguments: Any) -> None:
    """Call a function with a group of two processes, in each of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_process, args=(port, work, arguments), nprocs=WORLD)


def _process(rank: int, port: int, work: Any, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="test",
    )  # fmt: skip
    work(joined(), *arguments)
    dist.destroy_process_group()
