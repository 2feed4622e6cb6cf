"""A plan → run folders, by Hydra's launcher."""

import sys
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from scalelab import preflight
from scalelab.composing import CONFIG_NAME, VERSION_BASE, as_mapping, searching
from scalelab.config import config_dir, spec_from_config
from scalelab.hydra_errors import told
from scalelab.jobs import run_jobs
from scalelab.plan import Plan
from scalelab.trials import RunFolder
from scalelab.workers.environment import set_defaults
from scalelab.workers.job import job_of, sink_of

PLANNED: ContextVar[Plan | None] = ContextVar("PLANNED", default=None)  # what is being launched


def job(config: DictConfig) -> float | None:
    """One job of Hydra's: the validation loss of the run in its own folder (None where there is none)."""
    plain = as_mapping(config)
    device, threads = preflight.device_and_threads(plain)
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    sink = sink_of(plain["tracker"], sweeper=str(HydraConfig.get().sweeper._target_))
    spec = spec_from_config(plain)
    asked = job_of(spec, folder, sink=sink, pruning=preflight.pruning(plain))
    (trial,) = run_jobs(
        [asked], device=device, threads=threads, compiled=preflight.compiled(plain),
        parallel=preflight.spread(plain, spec),
    )  # fmt: skip
    return trial.loss_nats if trial else None


def launch(
    overrides: Sequence[str], *, multirun: bool, directories: Sequence[str] = (), planned: Plan | None = None
) -> None:
    """Hand the overrides to Hydra, which runs every job; a job that fails is reported by Hydra at the end.

    `planned` is their plan where there is one, for the sweeper, which else would make it again.
    """
    set_defaults()
    token = PLANNED.set(planned)
    try:
        run_hydra([*(["--multirun"] if multirun else []), *overrides, *searching(directories)])
    finally:
        PLANNED.reset(token)


def run_hydra(arguments: Sequence[str]) -> None:
    """Run the Hydra app with these arguments, flags first; `--cfg job` prints the configuration and runs nothing."""
    before, sys.argv = sys.argv, ["scalelab train", *arguments]
    try:
        with told():
            hydra.main(config_path=str(config_dir()), config_name=CONFIG_NAME, version_base=VERSION_BASE)(job)()
    finally:
        sys.argv = before
