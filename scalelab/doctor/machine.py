"""Cores, threads and limits of this machine, as far as a container lets see."""

import math
import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from scalelab.doctor.finding import Finding, fine, warning

TOPIC = "machine"
FILES = 1024  # open files: of a worker, with its pipes
CGROUP = Path("/sys/fs/cgroup")


def machine() -> Iterator[Finding]:
    """Of this process."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield from of_cores(here, quota(CGROUP), os.environ)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield of_files(soft, hard)


def quota(cgroup: Path) -> float | None:
    """Cores that a container may use, by cgroup v2 or v1; None where nothing limits them."""
    try:
        most, period = (cgroup / "cpu.max").read_text(encoding="utf-8").split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        pass
    try:
        most, period = (
            (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
        )
        return int(most) / int(period) if int(most) > 0 else None
    except (OSError, ValueError):
        return None


def of_cores(cores: int, most: float | None, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Cores, what a container leaves of them, and what was said to the libraries."""
    usable = cores if most is None else min(cores, max(1, math.floor(most)))
    seen = f"{cores} to be used" + ("" if most is None else f", of which this container gets {most:g}")
    if usable < cores:
        advice = f"threads beyond it wait for each other: threads={usable}, at most {usable} workers"
        yield warning(TOPIC, "cores", seen, advice)
    else:
        yield fine(TOPIC, "cores", seen)
    said = environment.get("OMP_NUM_THREADS", "")
    if not said:
        yield fine(TOPIC, "OMP_NUM_THREADS", "not set: scalelab says how many threads a run has (threads=)")
    elif not said.isdigit() or not 1 <= int(said) <= usable:
        yield warning(TOPIC, "OMP_NUM_THREADS", said, f"accepted is 1 to {usable} here, or unset")
    else:
        yield fine(TOPIC, "OMP_NUM_THREADS", said)


def of_files(soft: int, hard: int) -> Finding:
    """How many files a process may hold open."""
    if soft != resource.RLIM_INFINITY and soft < FILES:
        more = FILES if hard == resource.RLIM_INFINITY else min(hard, 65536)
        advice = (
            f"workers may run out: ulimit -n {more}" if more > soft else "workers may run out: ask for a higher limit"
        )
        return warning(TOPIC, "open files", f"{soft} a process", advice)
    return fine(TOPIC, "open files", f"{'any number' if soft == resource.RLIM_INFINITY else soft} a process")
