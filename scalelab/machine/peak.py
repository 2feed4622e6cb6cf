"""The matmul peak of this machine, measured: what an achieved FLOP/s is held against.

A number on a data sheet is not used: it is for clocks, and for cores, that a worker may not have. A peak is measured
once for a host, device, type, thread count and version of torch, and kept in the cache folder (`data.cache.cache_dir`).
"""

import contextlib
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scalelab.data.cache import cache_dir, whole_file
from scalelab.errors import Refused, unknown

if TYPE_CHECKING:
    import torch

DTYPES = {"cpu": "float32", "cuda": "bfloat16"}  # what a kind of device is fastest in and trains with, usually
SIDES = {"cpu": (256, 512, 1024), "cuda": (2048, 4096, 8192)}  # of the square matrices
BUDGET_SECONDS = 1.2  # for all sides together; torch's start and the first call of each are beside it
REPEATS = 50  # at most, of a side


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The best FLOP/s of a square matrix product in `dtype`, a multiply-add is 2; `side` is the one that reached it."""

    flops_per_second: float
    side: int
    host: str
    device: str
    name: str
    dtype: str
    threads: int
    torch: str


def matmul_peak(device: str = "cpu", dtype: str | None = None, threads: int = 1, *, again: bool = False) -> Peak:
    """The peak of this machine, from the cache where it has been measured; takes about a second where it has not.

    Measure on a machine that is idle: whatever runs beside it makes the peak too low.

    Args:
        device: a torch device, "cpu", "cuda", "cuda:1".
        dtype: a floating-point type of torch by name; float32 on a CPU, bfloat16 on CUDA if left out.
        threads: intra-op threads, those that a worker has.
        again: measure also where a peak is in the cache.

    Raises:
        Refused: on a device that is not there, or a type that it does not multiply.
    """
    import torch

    device = full_name(device)
    dtype = dtype or _usual(device)
    if not again and (found := known_peak(device, dtype, threads, torch=torch.__version__)):
        return found
    peak = _measured(device, dtype, threads)
    # A cache that cannot be written (a read-only node) costs the same second again next time, and nothing else.
    with contextlib.suppress(Refused), whole_file(_file(peak.host, device, dtype, threads, peak.torch)) as file:
        file.write(json.dumps(asdict(peak)).encode())
    return peak


def known_peak(
    device: str, dtype: str | None = None, threads: int = 1, *, torch: str, host: str | None = None
) -> Peak | None:
    """What has been measured before under the same conditions; None where nothing has. Does not import torch."""
    device = full_name(device)
    file = _file(host or platform.node(), device, dtype or _usual(device), threads, torch)
    return Peak(**json.loads(file.read_text())) if file.exists() else None


def full_name(device: str) -> str:
    """A device with its number, where it has one.

    >>> full_name("cuda"), full_name("cuda:1"), full_name("cpu")
    ('cuda:0', 'cuda:1', 'cpu')
    """
    return "cuda:0" if device == "cuda" else device


def _usual(device: str) -> str:
    kind = device.partition(":")[0]
    if kind not in DTYPES:
        raise unknown("device", device, DTYPES)
    return DTYPES[kind]


def _file(host: str, device: str, dtype: str, threads: int, torch: str) -> Path:
    key = hashlib.sha256(json.dumps([host, device, dtype, threads, torch]).encode()).hexdigest()
    return cache_dir() / "peaks" / f"{key}.json"


def _measured(device: str, dtype: str, threads: int) -> Peak:
    import torch

    kind = device.partition(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        raise Refused(f"device={device}: torch finds no CUDA device here, accepted is device=cpu")
    before, best, at = torch.get_num_threads(), 0.0, 0
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            for side in SIDES[kind]:
                # Of noise, by a generator of its own: a GPU multiplies ones faster than anything that is trained.
                noise = torch.Generator(device).manual_seed(0)
                square = torch.rand(side, side, generator=noise, device=device, dtype=getattr(torch, dtype))
                seconds = _fastest(partial(_multiply, square, kind), BUDGET_SECONDS / len(SIDES[kind]))
                if (rate := 2 * side**3 / seconds) > best:
                    best, at = rate, side
    except (AttributeError, RuntimeError) as error:
        raise Refused(f"no matrix product in {dtype} on {device} ({error}): accepted is {DTYPES[kind]}") from None
    finally:
        torch.set_num_threads(before)
    name = torch.cuda.get_device_name(device) if kind == "cuda" else platform.processor() or platform.machine()
    return Peak(
        flops_per_second=best, side=at, host=platform.node(), device=device, name=name, dtype=dtype, threads=threads,
        torch=torch.__version__,
    )  # fmt: skip


def _multiply(square: "torch.Tensor", kind: str) -> None:
    import torch

    torch.mm(square, square)
    if kind == "cuda":
        torch.cuda.synchronize(square.device)


def _fastest(multiply: Callable[[], None], budget: float) -> float:
    """Seconds of the fastest of several calls: at least two, no more than fit into the budget."""
    multiply()  # the first one loads the kernel
    fastest, until = math.inf, time.perf_counter() + budget
    for repeat in range(REPEATS):
        started = time.perf_counter()
        multiply()
        ended = time.perf_counter()
        fastest = min(fastest, ended - started)
        if ended > until and repeat:
            break
    return fastest
