"""One run in several processes, or in several passes a step: DDP, FSDP2, gradient accumulation, recomputed activations.

Each run is trained by itself. Rank 0 has the run's folder and says what is trained; the others `take_part` until they
are dismissed, and need to be told nothing else. The results are those of one process, to rounding.
"""

import contextlib
import json
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import torch

from scalelab import stopping
from scalelab.errors import Refused
from scalelab.parallel import Parallel, by_torchrun, check
from scalelab.spec import RunSpec, as_plain, from_plain
from scalelab.train.spread.checkpoint import whole
from scalelab.train.spread.group import Group, is_joined, joined, left, own_device
from scalelab.train.spread.loop import SpreadLoop
from scalelab.train.spread.torchrun import FAILURE_FILE
from scalelab.train.watch import Watch
from scalelab.trials import Trial

NOTHING_MORE = "null"
LOST = ("gloo", "NCCL", "DistNetworkError", "DistBackendError", "TCPStore")  # in errors of those who wait for others


def run(
    specs: Sequence[RunSpec], *, watches: Sequence[Watch], device: str, threads: int, parallel: Parallel
) -> list[Trial]:
    """Train runs one after another; the processes of `parallel` are there already, and this one is rank 0.

    Raises:
        Refused: what cannot be spread so, a pruner, a process that is none of those that torchrun has started.
    """
    if parallel.processes > 1 and by_torchrun() and parent_process() is not None and not is_joined():
        raise Refused("a run in processes of torchrun is trained in these: use hydra/launcher=basic")
    group = joined() if parallel.processes > 1 else Group()
    trials = []
    for spec, watch in zip(specs, watches, strict=True):
        check(parallel, spec)
        if watch.pruner is not None or watch.begins is not None:
            raise Refused(f"parallel={parallel.name} with a pruner: a run that is spread is trained to its end")
        if watch.checkpoint is not None:
            watch.checkpoint.with_name(FAILURE_FILE).unlink(missing_ok=True)
        order = {
            "spec": as_plain(spec), "parallel": asdict(parallel), "device": device, "threads": threads,
            "checkpoint": watch.checkpoint and str(watch.checkpoint.absolute()), "keep": watch.keep_checkpoint,
        }  # fmt: skip
        group.told(json.dumps(order))
        trials.append(_trained(spec, watch, parallel, group, device, threads))
    return trials


def take_part() -> None:
    """Train what rank 0 says, until it has nothing more to say."""
    group = joined()
    while (said := group.told()) != NOTHING_MORE:
        order: dict[str, Any] = json.loads(said)
        path = order["checkpoint"]
        watch = Watch(checkpoint=None if path is None else Path(path), keep_checkpoint=order["keep"])
        parallel = Parallel(**order["parallel"])
        _trained(from_plain(order["spec"]), watch, parallel, group, order["device"], order["threads"])


def dismiss() -> None:
    """As rank 0: have nothing more to say."""
    if by_torchrun() and int(os.environ["WORLD_SIZE"]) > 1:
        with left():
            joined().told(NOTHING_MORE)


def _trained(
    spec: RunSpec, watch: Watch, parallel: Parallel, group: Group, device: str, threads: int
) -> Trial:  # fmt: skip
    torch.set_num_threads(threads)
    with stopping.heeding(signal.SIGTERM, signal.SIGUSR2), _telling(watch, group):
        own = own_device(device) if group.size > 1 else device
        return SpreadLoop(spec=spec, watch=watch, parallel=parallel, group=group, device=own).run()


@contextlib.contextmanager
def _telling(watch: Watch, group: Group) -> Iterator[None]:
    """Leave the reason where a process fails. The first has it; what others then raise is that they lost it."""
    try:
        yield
    except Exception as error:
        if watch.checkpoint is None or group.size == 1:
            raise
        path = watch.checkpoint.with_name(FAILURE_FILE)
        reason = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
        if any(word in reason for word in LOST):
            reason = f"another process of the run was lost ({reason[:200]})"
        try:
            with path.open("x") as file:
                file.write(f"rank {group.rank} of {group.size}: {reason}")
        except FileExistsError:
            reason = path.read_text()
        raise RuntimeError(reason) from error


__all__ = ["dismiss", "left", "run", "take_part", "whole"]
