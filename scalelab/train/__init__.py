"""The trainer: specs → trials. Runs of one shape are one program: a population with a leading member dimension.

The order of the data is a function of (seed, step) and an initial value one of (seed, parameter name); nothing reduces
over the members. So a run does not depend on what is trained beside it: on one machine and one thread count it has the
same bits alone, in any population, and resumed from a checkpoint. This holds where a batch is a multiple of 16 tokens:
at other sizes a member may not begin where a CPU's vectors do, and its last bits may depend on its neighbours. (On a
GPU another kernel may be chosen for another number of members: the same to rounding.)
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from scalelab.parallel import USUAL, Parallel
from scalelab.programs import by_program
from scalelab.programs import members as usual_members
from scalelab.spec import RunSpec
from scalelab.train.checkpoint import CHECKPOINT_FILE, SHARDED
from scalelab.train.ended import DIVERGED_ABOVE_START_NATS
from scalelab.train.loop import Loop
from scalelab.train.watch import Beginning, Observer, Pruner, Watch
from scalelab.trials import Trial

__all__ = [
    "CHECKPOINT_FILE",
    "DIVERGED_ABOVE_START_NATS",
    "SHARDED",
    "Beginning",
    "Observer",
    "Pruner",
    "Watch",
    "discard",
    "run",
    "usual_size",
]


def run(
    specs: Sequence[RunSpec],
    *,
    watches: Sequence[Watch] | None = None,
    device: str = "cpu",
    threads: int = 1,
    members: int | None = None,
    compiled: bool = False,
    parallel: Parallel = USUAL,
) -> list[Trial]:
    """Train each spec to its horizon and measure its validation loss.

    Runs of one program (`programs.program`) are trained `members` at a time; whoever ends makes place for the next.
    Where runs begin alike, what they have in common is trained once (`trunks`). Runs that are spread over processes or
    passes are trained one after another (`spread`).

    Args:
        specs: complete runs; in any order, of any shapes.
        watches: for each spec, who is told how it goes.
        device: a torch device.
        threads: intra-op threads; one is fastest for small proxies, run one worker a core instead.
        members: how many runs to train together; the device's usual number by default (`programs.members`). Where
            memory does not suffice, half as many are, and so on.
        compiled: hand forward and backward passes to torch.compile: a minute a shape, and other bits.
        parallel: how a run is spread; of several processes, which torchrun has started, this one is rank 0.

    Returns:
        A trial a spec: OK, DIVERGED, or PRUNED where its watch has a pruner. What the machine does wrong (a lost file,
        no memory for a single run) is raised.
    """
    watching = watches if watches is not None else [Watch() for _ in specs]
    if parallel.spreads:
        from scalelab.train import spread

        return spread.run(specs, watches=watching, device=device, threads=threads, parallel=parallel)
    torch.set_num_threads(threads)
    trials: dict[int, Trial] = {}
    for found in by_program(specs).values():
        loop = Loop(
            specs={index: specs[index] for index in found},
            watches={index: watching[index] for index in found},
            device=device,
            size=members or usual_size(specs[found[0]], device),
            compiled=compiled,
            trials=trials,
        )
        loop.run()
    return [trials[index] for index in range(len(specs))]


def usual_size(spec: RunSpec, device: str) -> int:
    """How many runs of that program to train together on a device as it is now (`programs.members`)."""
    return usual_members(spec, free_bytes=torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else None)


def discard(folder: Path) -> None:
    """Remove the checkpoint of a run from its folder, of whichever kind it is."""
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / SHARDED, ignore_errors=True)
