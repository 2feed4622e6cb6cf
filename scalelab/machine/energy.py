"""Energy that a device has drawn, where it tells: a CPU through Linux' RAPL counters, an NVIDIA GPU through NVML.

Where it does not (no such counter, a virtual machine, no permission to read it, no pynvml) the answer is None and never
an error: a run does not fail for want of a meter. What is measured is the device alone: not the memory beside a GPU's
own, not fans or power supply.
"""

import importlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from scalelab.machine.peak import full_name

POWERCAP = Path("/sys/class/powercap")
ENERGY, WRAPS_AT = "energy_uj", "max_energy_range_uj"  # microjoules
Joules = Callable[[], float | None]


class Meter:
    """A meter of one device, of one process."""

    def __init__(self, device: str = "cpu", *, powercap: Path = POWERCAP) -> None:
        """Begin to count.

        Args:
            device: a torch device. "cpu" is every processor of the machine, with its memory where that is counted
                apart, whoever uses them: a worker's part is `cpu_share`.
            powercap: where the kernel shows the RAPL counters.
        """
        kind = device.partition(":")[0]
        self._joules = _gpu(full_name(device)) if kind == "cuda" else _cpu(powercap) if kind == "cpu" else _unknown
        self._is_shared, self._seen = kind == "cpu", 0.0

    def joules(self) -> float | None:
        """Joules that the device has drawn since the meter was made; None where it does not tell.

        RAPL's counters wrap around (at 262 kJ, which is 20 minutes at 220 W): ask at least once a round, more often
        than every 10 minutes, or a whole round is missed.
        """
        return self._joules()

    def since(self, threads: int) -> float:
        """What a worker of so many threads has drawn since this was last asked; NaN where the device does not tell."""
        before, total = self._seen, self.joules()
        if total is None:
            return math.nan
        self._seen = total
        return (total - before) * (cpu_share(threads) if self._is_shared else 1.0)


def cpu_share(threads: int) -> float:
    """The part of a machine's CPU energy that is put on a worker of so many threads: by its logical cores, evenly.

    Assumed: idle cores are put on nobody, and a busy core draws what another does.

    >>> 0 < cpu_share(1) <= cpu_share(10**6) == 1
    True
    """
    return min(1.0, threads / (os.cpu_count() or 1))


def rapl_zones(powercap: Path = POWERCAP) -> tuple[Path, ...]:
    """The counters that do not contain each other: every package, and its memory.

    A package holds its cores and its uncore, so those are left out; "psys", the whole platform, holds the packages.
    """
    zones = sorted(powercap.glob("intel-rapl:*"))  # of AMD's processors, too
    return tuple(zone for zone in zones if (_text(zone / "name") or "").startswith(("package", "dram")))


def _cpu(powercap: Path) -> Joules:
    zones = rapl_zones(powercap)
    last = _readings(zones)
    drawn = 0

    def joules() -> float | None:
        nonlocal last, drawn
        now = _readings(zones)
        if last is None or now is None:
            last = None  # a gap is never filled: unknown from here on
            return None
        for zone, reading in now.items():
            grown = reading - last[zone]
            if grown < 0:
                if (range_uj := _number(zone / WRAPS_AT)) is None:
                    last = None
                    return None
                grown += range_uj
            drawn += grown
        last = now
        return drawn * 1e-6

    return joules


def _unknown() -> None:
    """Of a device that does not tell."""


def _readings(zones: tuple[Path, ...]) -> Mapping[Path, int] | None:
    """What every counter shows, microjoules; None where one cannot be read (Linux lets only root), or there is none."""
    found = {zone: _number(zone / ENERGY) for zone in zones}
    shown = {zone: reading for zone, reading in found.items() if reading is not None}
    return shown if zones and len(shown) == len(zones) else None


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text and text.isdecimal() else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None


def _gpu(device: str) -> Joules:
    """By the GPU's unique identifier: CUDA_VISIBLE_DEVICES renumbers what NVML sees."""
    try:
        import torch

        nvml = importlib.import_module("pynvml")
        uuid = str(torch.cuda.get_device_properties(device).uuid)
    except (ImportError, AttributeError, RuntimeError, AssertionError):  # no pynvml, no CUDA in torch or none here
        return _unknown

    def counter() -> float:
        """Since the driver was loaded, joules."""
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * 1e-3

    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        began = counter()
    except nvml.NVMLError:  # before Volta there is no such counter
        return _unknown

    def joules() -> float | None:
        try:
            return counter() - began
        except nvml.NVMLError:
            return None

    return joules
