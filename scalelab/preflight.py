"""What is asked before a run is paid for and is no part of its identity: device, threads, folder, memory, tracker."""

import os
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scalelab.errors import Refused
from scalelab.models import count_params
from scalelab.parallel import Parallel, parallel_of
from scalelab.parallel import check as check_parallel
from scalelab.resolve import betas, settings
from scalelab.secrets import refuse_resolved_secrets
from scalelab.spec import RunSpec
from scalelab.trackers import tracker
from scalelab.values import integer

BYTES_A_PARAMETER = 16  # float32 weight, gradient and Adam's two moments


def check(config: Mapping[str, Any], spec: RunSpec, *, elsewhere: bool = False) -> None:
    """Refuse what would fail, or go astray, only after it was launched.

    `elsewhere`: whether it is for another machine, whose devices and memory nobody here knows.
    """
    check_place(config)
    if not elsewhere:
        check_memory(spec, copies=parallel_of(config["parallel"]).copies if config["device"] == "cpu" else 1.0)
    settings(spec)  # a role without a rule, a β below 0
    betas(spec)
    device_and_threads(config, elsewhere=elsewhere)
    compiled(config)
    pruning(config)
    spread(config, spec)
    tracker(**config["tracker"])
    refuse_resolved_secrets(config)


def device_and_threads(config: Mapping[str, Any], *, elsewhere: bool = False) -> tuple[str, int]:
    """Where a run is to be trained, and with how many threads; not part of its identity."""
    device, threads = _device(config), integer("threads", config["threads"])
    if threads < 1:
        raise Refused(f"threads={threads}: accepted is a positive whole number")
    if not elsewhere and not is_here(config):
        raise Refused(
            f"device={device}: torch {version('torch')} sees no such device here; try device=cpu, or --dry-run to plan"
            " for a machine that has one"
        )
    return device, threads


def is_here(config: Mapping[str, Any]) -> bool:
    """Whether torch sees a run's device on this machine."""
    kind, _, index = _device(config).partition(":")
    if kind == "cpu":
        return True
    import torch  # only a device other than the CPU needs asking

    return torch.backends.mps.is_available() if kind == "mps" else int(index or 0) < torch.cuda.device_count()


def _device(config: Mapping[str, Any]) -> str:
    device = str(config["device"])
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise Refused(f"device={device!r}: accepted are cpu, cuda, cuda:0, …, mps")
    return device


def compiled(config: Mapping[str, Any]) -> bool:
    """Whether a run's passes are handed to torch.compile; not part of its identity."""
    if not isinstance(config["compile"], bool):
        raise Refused(f"compile={config['compile']!r}: accepted are true, false")
    return config["compile"]


def pruning(config: Mapping[str, Any]) -> int | None:
    """The trial of a search with a pruner that a run belongs to, None of most runs."""
    return None if config["pruning"] is None else integer("pruning", config["pruning"])


def spread(config: Mapping[str, Any], spec: RunSpec) -> Parallel:
    """How a run is spread over processes and passes; not part of its identity. `Refused` where it cannot be so."""
    found, device = parallel_of(config["parallel"]), str(config["device"])
    if not found.spreads:
        return found
    check_parallel(found, spec)
    if compiled(config):
        raise Refused("compile=true with a run that is spread (parallel): not there yet, leave compile=false")
    if pruning(config) is not None:
        raise Refused("parallel with a search that prunes: a run that is spread is trained to its end; a"
                      " search without pruner, or parallel=none")  # fmt: skip
    if found.processes > 1 and device not in ("cpu", "cuda"):
        raise Refused(f"device={device} with {found.processes} processes: accepted are cpu and cuda, a GPU each")
    return found


def check_place(config: Mapping[str, Any]) -> None:
    """Refuse an output folder that is nowhere, or a study that would leave it."""
    for name in ("out", "study"):
        if config[name] is None or not str(config[name]).strip() or not str(config[name]).isprintable():
            raise Refused(f"{name}={config[name]!r}: accepted is the name of a folder")
    out, study = Path(str(config["out"])), Path(str(config["study"]))
    if study.is_absolute() or ".." in study.parts:
        raise Refused(f"study={study}: accepted is a name below out, without '..'")
    if not (out / study).resolve().is_relative_to(out.resolve()):
        raise Refused(f"study={study}: {out / study} is a link out of {out}; accepted is a folder of its own")


def check_memory(spec: RunSpec, *, copies: float = 1.0) -> None:
    """Refuse a run whose weights, gradients and optimizer state alone, so many times, exceed this machine's memory.

    A command knows itself over how many machines it spreads.
    """
    if spec.command is not None:
        return
    needed = copies * BYTES_A_PARAMETER * count_params(spec).total
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise Refused(
            f"width={spec.shape.width} depth={spec.shape.depth} needs {needed / 2**30:,.0f} GiB for weights, gradients"
            f" and optimizer state; this machine has {there / 2**30:,.0f} GiB"
        )
