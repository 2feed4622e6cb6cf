"""What is asked before a run is paid for and is no part of its identity: device, threads, folder, memory, tracker."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scalelab.errors import Refused
from scalelab.models import count_params
from scalelab.resolve import betas, settings
from scalelab.spec import RunSpec
from scalelab.trackers import tracker
from scalelab.values import integer

BYTES_A_PARAMETER = 16  # float32 weight, gradient and Adam's two moments


def check(config: Mapping[str, Any], spec: RunSpec) -> None:
    """Refuse what would fail, or go astray, only after it was launched."""
    check_place(config)
    check_memory(spec)
    settings(spec)  # a role without a rule, a β below 0
    betas(spec)
    device_and_threads(config)
    compiled(config)
    pruning(config)
    tracker(**config["tracker"])


def device_and_threads(config: Mapping[str, Any]) -> tuple[str, int]:
    """Where a run is to be trained, and with how many threads; not part of its identity."""
    device, threads = str(config["device"]), integer("threads", config["threads"])
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise Refused(f"device={device!r}: accepted are cpu, cuda, cuda:0, …, mps")
    if threads < 1:
        raise Refused(f"threads={threads}: accepted is a positive whole number")
    if device != "cpu":
        import torch  # only a device other than the CPU needs asking

        kind, _, index = device.partition(":")
        there = torch.backends.mps.is_available() if kind == "mps" else int(index or 0) < torch.cuda.device_count()
        if not there:
            raise Refused(f"device={device}: torch {torch.__version__} sees no such device here; try device=cpu")
    return device, threads


def compiled(config: Mapping[str, Any]) -> bool:
    """Whether a run's passes are handed to torch.compile; not part of its identity."""
    if not isinstance(config["compile"], bool):
        raise Refused(f"compile={config['compile']!r}: accepted are true, false")
    return config["compile"]


def pruning(config: Mapping[str, Any]) -> int | None:
    """The trial of a search with a pruner that a run belongs to, None of most runs."""
    return None if config["pruning"] is None else integer("pruning", config["pruning"])


def check_place(config: Mapping[str, Any]) -> None:
    """Refuse an output folder that is nowhere, or a study that would leave it."""
    for name in ("out", "study"):
        if config[name] is None or not str(config[name]).strip():
            raise Refused(f"{name}={config[name]!r}: accepted is the name of a folder")
    study = Path(str(config["study"]))
    if study.is_absolute() or ".." in study.parts:
        raise Refused(f"study={study}: accepted is a name below out, without '..'")


def check_memory(spec: RunSpec) -> None:
    """Refuse a run whose weights, gradients and optimizer state alone exceed this machine's memory."""
    needed = BYTES_A_PARAMETER * count_params(spec).total
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise Refused(
            f"width={spec.shape.width} depth={spec.shape.depth} needs {needed / 2**30:,.0f} GiB for weights, gradients"
            f" and optimizer state; this machine has {there / 2**30:,.0f} GiB"
        )
