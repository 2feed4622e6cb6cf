"""Where Hydra meets the rest: arguments → a plan of runs → Hydra's launcher → run folders.

`scalelab train` and `python -m scalelab.train` come here. The plan is composed before anything is launched, so a
mistake in any of a sweep's runs is refused before the first one is paid for.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scalelab.config import config_dir, spec_from_config
from scalelab.data import load, validation_batches
from scalelab.errors import Refused
from scalelab.jobs import run_job
from scalelab.spec import RunSpec
from scalelab.trackers import Tracker, tracker
from scalelab.trials import TRIAL_FILE, Outcome, RunFolder

CONFIG_NAME = "train"
VERSION_BASE = "1.3"

# For the workers that are started from here (steps measured 1.1 to 1.3 times faster): glibc keeps freed
# memory instead of returning it to the kernel after every step, and idle OpenMP threads sleep instead of spinning.
WORKER_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "OMP_WAIT_POLICY": "PASSIVE",
}


def _plain(config: DictConfig) -> dict[str, Any]:
    visible = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = OmegaConf.to_container(visible, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _fingerprint(*, _root_: DictConfig) -> str:
    return spec_from_config(_plain(_root_)).fingerprint


OmegaConf.register_new_resolver("scalelab.fingerprint", _fingerprint, replace=True)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a plan: the overrides that make it, what it is, and where it will be."""

    overrides: tuple[str, ...]
    spec: RunSpec
    folder: RunFolder


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every run that the given arguments ask for, each once, in launch order."""

    runs: tuple[PlannedRun, ...]

    @property
    def missing(self) -> tuple[PlannedRun, ...]:
        return tuple(run for run in self.runs if not run.folder.finished)


@contextmanager
def refusing() -> Iterator[None]:
    """Hydra's and OmegaConf's errors about a user's configuration as one line."""
    try:
        yield
    except Refused:
        raise
    except (OmegaConfBaseException, hydra.errors.HydraException, ValueError) as error:  # a number for a group's name
        raise Refused(_one_line(error)) from None


def _one_line(error: BaseException) -> str:
    # The cause says which key it was; Hydra's own wrapping only that something was wrong.
    while error.__cause__ is not None and not str(error).strip().startswith("Could not"):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("full_key", "object_type", "Search path", "To append"))]
    options = [line for line in lines if line.startswith("Available options")]
    if options:  # the names follow, one a line, then where they were searched for
        at = lines.index(options[0])
        names = lines[at + 1 : next((i for i in range(at, len(lines)) if lines[i].startswith("Config search")), None)]
        return f"{'; '.join(lines[:at])}: accepted are {', '.join(names)}"
    return "; ".join(kept[:3]).rstrip(".") + ": see conf/train.yaml for the accepted keys"


def plan(overrides: Sequence[str], *, multirun: bool, directories: Sequence[str] = ()) -> Plan:
    """The runs that a command line asks for.

    Args:
        overrides: Hydra overrides, a sweep's values separated by commas.
        multirun: whether `-m` was given.
        directories: further configuration directories (`--config-dir`), absolute.
    """
    from hydra import compose, initialize_config_dir

    given = [*overrides, *searching(directories)]
    with refusing(), initialize_config_dir(str(config_dir()), version_base=VERSION_BASE, job_name=CONFIG_NAME):
        jobs = _split(compose, given) if multirun else [tuple(given)]
        runs: dict[str, PlannedRun] = {}
        for job in jobs:
            config = compose(CONFIG_NAME, list(job), return_hydra_config=True)
            plain = _plain(config)
            spec = spec_from_config(plain)
            _worker(plain)
            where = config.hydra.sweep if multirun else config.hydra.run
            folder = RunFolder(Path(where.dir) / where.subdir if multirun else Path(where.dir))
            runs.setdefault(spec.fingerprint, PlannedRun(overrides=job, spec=spec, folder=folder))
    for data, context in {(run.spec.data, run.spec.shape.context): None for run in runs.values()}:
        corpus = load(data.name, **dict(data.options))
        validation_batches(corpus, tokens=data.validation_tokens, sequences=1, context=context)  # refuses a short split
    return Plan(runs=tuple(runs.values()))


def _worker(plain: Mapping[str, Any]) -> tuple[Tracker, int]:
    """The tracker and the threads of a job; `Refused` on what is not accepted."""
    threads = plain["threads"]
    if not isinstance(threads, int) or threads < 1:
        raise Refused(f"threads={threads!r}: accepted is a positive whole number")
    return tracker(**plain["tracker"]), threads


def searching(directories: Sequence[str]) -> list[str]:
    """The override that adds configuration directories to Hydra's search path."""
    return [f"hydra.searchpath=[{','.join(f'file://{directory}' for directory in directories)}]"] if directories else []


def _split(compose: Any, given: Sequence[str]) -> list[tuple[str, ...]]:
    """The jobs of a multirun: Hydra's own expansion of the study's parameters, the command line's winning."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    parsed = [(line, override) for line, override in zip(given, parser.parse_overrides(list(given)), strict=True)]
    fixed = [line for line, override in parsed if not override.is_sweep_override()]
    study = compose(CONFIG_NAME, fixed, return_hydra_config=True).hydra.sweeper.get("params") or {}
    lines = [f"{key}={value}" for key, value in study.items()]
    task = parser.parse_overrides([*lines, *(line for line, override in parsed if not override.is_hydra_override())])
    (batch,) = BasicSweeper.split_arguments(task, None)
    own = [line for line, override in parsed if override.is_hydra_override()]
    return [(*own, *job) for job in batch]


def job(config: DictConfig) -> float | None:
    """One job of Hydra's: the validation loss of the run in its own folder (None where there is none)."""
    plain = _plain(config)
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    sink, threads = _worker(plain)
    trial = run_job(spec_from_config(plain), folder, tracker=sink, device=plain["device"], threads=threads)
    return trial.loss_nats if trial else None


def launch(overrides: Sequence[str], *, multirun: bool, directories: Sequence[str] = ()) -> None:
    """Hand the overrides to Hydra, which runs every job; a job that fails is reported by Hydra at the end."""
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    flags = ["--multirun"] if multirun else []
    before, sys.argv = sys.argv, ["scalelab train", *flags, *overrides, *searching(directories)]
    try:
        hydra.main(config_path=str(config_dir()), config_name=CONFIG_NAME, version_base=VERSION_BASE)(job)()
    finally:
        sys.argv = before


def main() -> None:
    """`python -m scalelab.train`: the same as `scalelab train`."""
    from scalelab.cli import app

    app(["train", *sys.argv[1:]])


def summary(planned: Plan) -> dict[Outcome | None, int]:
    """How many runs of a plan ended in which way; None counts those that have not ended."""
    counts: dict[Outcome | None, int] = {}
    for run in planned.runs:
        ended = (run.folder.path / TRIAL_FILE).exists()
        outcome = run.folder.read().outcome if ended else None
        counts[outcome] = counts.get(outcome, 0) + 1
    return counts
