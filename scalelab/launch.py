"""A plan → run folders, by Hydra's launcher."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from scalelab.composing import CONFIG_NAME, VERSION_BASE, as_mapping, searching
from scalelab.config import config_dir, spec_from_config
from scalelab.jobs import run_job
from scalelab.preflight import device_and_threads
from scalelab.trackers import tracker
from scalelab.trials import RunFolder

# For the workers that are started from here (steps measured 1.1 to 1.3 times faster): glibc keeps freed memory instead
# of returning it to the kernel after every step, and idle OpenMP threads sleep instead of spinning.
WORKER_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "OMP_WAIT_POLICY": "PASSIVE",
}


def job(config: DictConfig) -> float | None:
    """One job of Hydra's: the validation loss of the run in its own folder (None where there is none)."""
    plain = as_mapping(config)
    device, threads = device_and_threads(plain)
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    sink = tracker(**plain["tracker"])
    trial = run_job(spec_from_config(plain), folder, tracker=sink, device=device, threads=threads)
    return trial.loss_nats if trial else None


def launch(overrides: Sequence[str], *, multirun: bool, directories: Sequence[str] = ()) -> None:
    """Hand the overrides to Hydra, which runs every job; a job that fails is reported by Hydra at the end."""
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    run_hydra([*(["--multirun"] if multirun else []), *overrides, *searching(directories)])


def run_hydra(arguments: Sequence[str]) -> None:
    """Run the Hydra app with these arguments, flags first; `--cfg job` prints the configuration and runs nothing."""
    before, sys.argv = sys.argv, ["scalelab train", *arguments]
    try:
        hydra.main(config_path=str(config_dir()), config_name=CONFIG_NAME, version_base=VERSION_BASE)(job)()
    finally:
        sys.argv = before
