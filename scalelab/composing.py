"""Arguments → configurations: Hydra's composition, with its errors in one line. What a run is, `plan` knows."""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scalelab.config import config_dir, spec_from_config
from scalelab.errors import Refused, unknown
from scalelab.keys import studies_like
from scalelab.secrets import refuse_secret_overrides, refuse_secrets

CONFIG_NAME = "train"
VERSION_BASE = "1.3"
SEARCHES = ".OptunaSweeper"  # the sweeper that makes no plan
FUSES = ".FusedLauncher"
ELSEWHERE = ".EngineLauncher"  # the launcher of other machines
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
class Job:
    """One job as Hydra would run it: the overrides that make it (Hydra's own, the task's) and its configuration.

    `folder` is that of its sweep, None without one. `elsewhere`: whether it is launched on another machine.
    """

    hydra_overrides: tuple[str, ...] = ()
    task_overrides: tuple[str, ...]
    config: DictConfig
    folder: Path | None = None
    elsewhere: bool = False


@dataclass(frozen=True, kw_only=True)
class Multirun:
    """What `-m` asks for, before it is known which jobs that makes.

    `common` is the configuration without what is swept; `own` are the overrides of Hydra's part; `asked` are the
    task's, the sweeper's `params` before the command line's: of two for a key the last wins.
    """

    common: DictConfig
    fixed: tuple[str, ...]
    own: tuple[str, ...]
    asked: tuple[Override, ...]

    @property
    def sweeper(self) -> DictConfig:
        """The configuration of the sweeper, its class in `_target_`."""
        found: DictConfig = self.common.hydra.sweeper
        return found

    @property
    def is_search(self) -> bool:
        """Whether what is run depends on what has been found."""
        return str(self.sweeper._target_).endswith(SEARCHES)

    @property
    def is_fused(self) -> bool:
        """Whether the runs are grouped for warm workers."""
        return str(self.common.hydra.launcher._target_).endswith(FUSES)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the runs are launched on other machines."""
        return str(self.common.hydra.launcher._target_).endswith(ELSEWHERE)

    @property
    def folder(self) -> Path:
        """Where the runs are, unless a job has another study."""
        return Path(self.common.hydra.sweep.dir)

    def job(self, overrides: Sequence[str]) -> Job:
        """The job of these overrides, which hold all of the task's.

        A composition costs Hydra 50 ms. What is swept as a number or a name needs none of its own: it is put into the
        composition of what chooses a group or a folder, as Hydra would.
        """
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        swept = [override for override in parsed if override.input_line not in self.fixed]
        plain = [override for override in swept if self._is_plain(override)]
        base, folder = self._visible, self.folder
        if len(plain) < len(swept):
            put = {override.input_line for override in plain}
            base, folder = self._composed(tuple(line for line in overrides if line not in put))
        config = copy.deepcopy(base)
        for override in plain:
            with refusing():
                OmegaConf.update(config, override.key_or_group, override.value())
        return Job(
            hydra_overrides=self.own, task_overrides=tuple(overrides), config=config, folder=folder,
            elsewhere=self.is_elsewhere,
        )  # fmt: skip

    @cached_property
    def _visible(self) -> DictConfig:
        return _visible(self.common)

    def _is_plain(self, override: Override) -> bool:
        key = override.key_or_group
        if override.is_add() or override.is_delete() or override.package or key.split(".")[0] in ("out", "study"):
            return False
        if "/" in key:  # a group of options in a folder, which no value of the configuration is named by
            return False
        return not isinstance(OmegaConf.select(self.common, key, default=None), DictConfig)

    @cached_property
    def _bases(self) -> dict[tuple[str, ...], tuple[DictConfig, Path]]:
        return {}

    def _composed(self, overrides: tuple[str, ...]) -> tuple[DictConfig, Path]:
        if overrides not in self._bases:
            whole = composed_from([*self.own, *overrides])
            self._bases[overrides] = _visible(whole), Path(whole.hydra.sweep.dir)
        return self._bases[overrides]


def multirun(given: Sequence[str]) -> Multirun:
    """What a command line with `-m` asks for; `Refused` on a folder in which a run could not be found again."""
    refuse_secret_overrides(given)
    with refusing():
        parser = OverridesParser.create()
        parsed = list(zip(given, parser.parse_overrides(list(given)), strict=True))
    fixed = [line for line, override in parsed if not override.is_sweep_override()]
    common = composed_from(fixed)
    if common.hydra.sweep._get_node("subdir")._value() != SUBFOLDER:
        raise Refused(f"hydra.sweep.subdir is {SUBFOLDER} and no other: a run's name is its identity")
    params = common.hydra.sweeper.get("params") or {}
    if not isinstance(params, DictConfig | dict):
        raise Refused(f"hydra.sweeper.params={params}: accepted are keys below it, each with its values")
    asked = [f"{key!s}={value}" for key, value in params.items()]
    asked += [line for line, override in parsed if not override.is_hydra_override()]
    with refusing():
        overrides = tuple(parser.parse_overrides(asked))
    own = tuple(line for line, override in parsed if override.is_hydra_override())
    return Multirun(common=common, fixed=tuple(fixed), own=own, asked=overrides)


def _visible(config: DictConfig) -> DictConfig:
    """A configuration without Hydra's part, which takes no new keys."""
    found = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    OmegaConf.set_struct(found, True)
    return found


def composed_from(overrides: Sequence[str]) -> DictConfig:
    """The whole configuration of these overrides, Hydra's part included."""
    refuse_secret_overrides(overrides)
    with hydra_ready(), refusing():
        found = compose(CONFIG_NAME, list(overrides), return_hydra_config=True)
        written = OmegaConf.to_container(found, resolve=False, enum_to_str=True)
    assert isinstance(written, dict)
    subfolder = written["hydra"]["output_subdir"]
    if subfolder is not None and Path(subfolder).name != subfolder:
        raise Refused(f"hydra.output_subdir={subfolder}: accepted is a name in the run's folder, or null")
    refuse_secrets({str(key): value for key, value in written.items()})
    return found


def hydra_ready() -> AbstractContextManager[None]:
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


@contextmanager
def refusing() -> Iterator[None]:
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
    if found := re.match(r"Could not override '(hydra\.[^']+)'", text):
        return Refused(f"unknown key {found[1]}: see conf/hydra and Hydra's own documentation for the accepted ones")
    if found := re.match(r"(?:Could not override|Key) '([^']+)'", text):
        if found[1].startswith("trainer."):
            return Refused(
                f"{found[1]} is no key that is set so: conf/trainer/command.yaml has the accepted ones; what is added"
                " below env, words, outcomes or metrics.keys is written with a plus, +trainer.env.NAME=VALUE"
            )
        with hydra_ready():
            key, default = found[1], as_mapping(compose(CONFIG_NAME))
        if key not in (known := set(_keys(default))):
            group = key.rpartition(".")[0]
            return unknown("key", key, [name for name in known if name.rpartition(".")[0] == group] or known)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Available options in" in text:  # the names follow, one a line, then where they were searched for
        at = next(i for i, line in enumerate(lines) if line.startswith("Available options in"))
        end = next((i for i, line in enumerate(lines) if line.startswith("Config search")), None)
        study = re.search(r"'sweep/([^']+)'", lines[0])  # of which Hydra leaves out those in folders
        accepted = lines[at + 1 : end] if study is None else studies_like(config_dir() / "sweep", study[1])
        return Refused(f"{'; '.join(lines[:at])}: accepted are {', '.join(accepted)}")
    kept = [line for line in lines if not line.startswith(("full_key", "object_type", "Search path", "To append"))]
    return Refused("; ".join(kept[:3]).rstrip(".") + ": see conf/train.yaml for the accepted keys")


def _keys(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
