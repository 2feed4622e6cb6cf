"""Arguments → a plan: every run that a command line asks for, composed by Hydra and resolved before any is paid for."""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scalelab import preflight
from scalelab.config import config_dir, spec_from_config
from scalelab.data import load, validation_batches
from scalelab.errors import Refused, unknown
from scalelab.overrides import split_flags
from scalelab.spec import RunSpec
from scalelab.trials import TRIAL_FILE, Outcome, RunFolder

CONFIG_NAME = "train"
VERSION_BASE = "1.3"
SUBFOLDER = "${scalelab.fingerprint:}"  # of conf/train.yaml: runs are named by what they are


def as_mapping(config: DictConfig) -> dict[str, Any]:
    """A composed configuration without Hydra's own part, interpolations resolved."""
    visible = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = OmegaConf.to_container(visible, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _fingerprint(*, _root_: DictConfig) -> str:
    return spec_from_config(as_mapping(_root_)).fingerprint


OmegaConf.register_new_resolver("scalelab.fingerprint", _fingerprint, replace=True)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a plan: the overrides that make it (Hydra's own and the task's), what it is, and where it will be."""

    hydra_overrides: tuple[str, ...]
    task_overrides: tuple[str, ...]
    spec: RunSpec
    folder: RunFolder


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every run that the given arguments ask for, each once, in launch order."""

    runs: tuple[PlannedRun, ...]

    @property
    def missing(self) -> tuple[PlannedRun, ...]:
        """The runs without a final trial, looked up on disk at each call."""
        return tuple(run for run in self.runs if run.folder.final(run.spec) is None)

    def outcomes(self) -> dict[Outcome | None, int]:
        """How many runs ended in which way; None counts those that have not ended."""
        counts: dict[Outcome | None, int] = {}
        for run in self.runs:
            ended = (run.folder.path / TRIAL_FILE).exists()
            outcome = run.folder.read().outcome if ended else None
            counts[outcome] = counts.get(outcome, 0) + 1
        return counts


def plan(overrides: Sequence[str], *, multirun: bool, directories: Sequence[str] = ()) -> Plan:
    """The runs that a command line asks for.

    Args:
        overrides: Hydra overrides, a sweep's values separated by commas.
        multirun: whether `-m` was given.
        directories: further configuration directories (`--config-dir`), absolute.

    Raises:
        Refused: on anything in any run that is not accepted; nothing has been written then.
    """
    given = [*overrides, *searching(directories)]
    runs: dict[str, PlannedRun] = {}
    with _hydra():
        for own, task, config, folder in _composed(given, multirun=multirun):
            with _refusing():
                plain = as_mapping(config)
            spec = spec_from_config(plain)
            preflight.check(plain, spec)
            where = RunFolder(folder / spec.fingerprint if folder is not None else Path(config.hydra.run.dir))
            runs.setdefault(
                spec.fingerprint, PlannedRun(hydra_overrides=own, task_overrides=task, spec=spec, folder=where)
            )
    for data, context in {(run.spec.data, run.spec.shape.context): None for run in runs.values()}:
        corpus = load(data.name, **dict(data.options))
        validation_batches(corpus, tokens=data.validation_tokens, sequences=1, context=context)  # refuses a short split
    return Plan(runs=tuple(runs.values()))


def composed(arguments: Sequence[str]) -> RunSpec:
    """The one run that a command line states, of any size: nothing is asked of this machine, as `plan` does.

    Raises:
        Refused: on anything that is not accepted.
    """
    overrides, multirun, directories = split_flags(arguments)
    if multirun:
        raise Refused("no -m here: accepted is one configuration, KEY=VALUE …")
    with _hydra():
        ((_, _, config, _),) = _composed([*overrides, *searching(directories)], multirun=False)
        with _refusing():
            plain = as_mapping(config)
        return spec_from_config(plain)


def _hydra() -> AbstractContextManager[None]:
    """Hydra with our configuration: the one that is running, inside a job's program, or one of our own."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    initialised: AbstractContextManager[None] = initialize_config_dir(
        str(config_dir()), version_base=VERSION_BASE, job_name=CONFIG_NAME
    )
    return initialised


def searching(directories: Sequence[str]) -> list[str]:
    """The override that adds configuration directories to Hydra's search path."""
    quoted = [json.dumps(f"file://{directory}", ensure_ascii=False) for directory in directories]
    return [f"hydra.searchpath=[{','.join(quoted)}]"] if directories else []


Composed = tuple[tuple[str, ...], tuple[str, ...], DictConfig, Path | None]


def _composed(given: Sequence[str], *, multirun: bool) -> Iterator[Composed]:
    """Each job's overrides (Hydra's, the task's), its configuration, the folder of its sweep (None without one)."""
    if not multirun:
        yield (), tuple(given), _compose(given), None
        return
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with _refusing():
        parser = OverridesParser.create()
        parsed = list(zip(given, parser.parse_overrides(list(given)), strict=True))
    fixed = [line for line, override in parsed if not override.is_sweep_override()]
    base = _compose(fixed)
    sweeper = str(base.hydra.sweeper._target_)
    if not sweeper.endswith((".PlannedSweeper", ".BasicSweeper")):
        raise Refused(f"hydra/sweeper {sweeper}: accepted are scalelab and basic, whose runs can be planned")
    if base.hydra.sweep._get_node("subdir")._value() != SUBFOLDER:
        raise Refused(f"hydra.sweep.subdir is {SUBFOLDER} and no other: a run's name is its identity")
    own = tuple(line for line, override in parsed if override.is_hydra_override())
    asked = [f"{key}={value}" for key, value in (base.hydra.sweeper.get("params") or {}).items()]
    asked += [line for line, override in parsed if not override.is_hydra_override()]
    with _refusing():  # Hydra's own expansion; the last of two values for a key wins, so the command line's
        (batch,) = BasicSweeper.split_arguments(parser.parse_overrides(asked), None)
    visible = OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"])
    OmegaConf.set_struct(visible, True)
    for job in batch:
        config = _with_values(visible, job, fixed)
        folder = base.hydra.sweep.dir
        if config is None:
            config = _compose([*own, *job])
            folder = config.hydra.sweep.dir
        yield own, tuple(job), config, Path(folder)


def _with_values(base: DictConfig, job: Sequence[str], fixed: Sequence[str]) -> DictConfig | None:
    """The base with a job's plain values put in, as Hydra would; None where it takes a whole composition.

    A composition costs Hydra 50 ms. A swept number or name needs none, unless it chooses a group or a folder.
    """
    config = copy.deepcopy(base)
    for override in OverridesParser.create().parse_overrides([line for line in job if line not in fixed]):
        key = override.key_or_group
        if override.is_add() or override.is_delete() or override.package or key.split(".")[0] in ("out", "study"):
            return None
        with _refusing():
            if isinstance(OmegaConf.select(config, key, default=None), DictConfig):
                return None
            OmegaConf.update(config, key, override.value())
    return config


def _compose(overrides: Sequence[str]) -> DictConfig:
    with _refusing():
        return compose(CONFIG_NAME, list(overrides), return_hydra_config=True)


@contextmanager
def _refusing() -> Iterator[None]:
    """Hydra's and OmegaConf's errors about a user's configuration as one line."""
    try:
        yield
    except Refused:
        raise
    except (OmegaConfBaseException, HydraException, ValueError) as error:  # ValueError: a number for a group's name
        raise _as_refused(error) from None


def _as_refused(error: BaseException) -> Refused:
    # The cause says which key it was; Hydra's own wrapping only that something was wrong.
    while error.__cause__ is not None and not str(error).strip().startswith("Could not"):
        error = error.__cause__
    text = str(error)
    if found := re.match(r"(?:Could not override|Key) '([^']+)'", text):
        key, default = found[1], as_mapping(compose(CONFIG_NAME))
        if key not in (known := set(_keys(default))):
            group = key.rpartition(".")[0]
            return unknown("key", key, [name for name in known if name.rpartition(".")[0] == group] or known)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Available options in" in text:  # the names follow, one a line, then where they were searched for
        at = next(i for i, line in enumerate(lines) if line.startswith("Available options in"))
        end = next((i for i, line in enumerate(lines) if line.startswith("Config search")), None)
        return Refused(f"{'; '.join(lines[:at])}: accepted are {', '.join(lines[at + 1 : end])}")
    kept = [line for line in lines if not line.startswith(("full_key", "object_type", "Search path", "To append"))]
    return Refused("; ".join(kept[:3]).rstrip(".") + ": see conf/train.yaml for the accepted keys")


def _keys(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
