"""Overrides of many jobs → what each of them is. Hydra composes once for all jobs that differ in plain values only.

A composition costs Hydra 50 ms; a number or a name that is put into one of them costs nothing. What chooses a group, a
folder, or what another value is interpolated from gets a composition of its own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from scalelab import preflight
from scalelab.composing import as_mapping
from scalelab.config import spec_from_config
from scalelab.parallel import Parallel
from scalelab.spec import RunSpec
from scalelab.trials import RunFolder
from scalelab.workers.job import sink_of

PLACES = ("out", "study")  # keys of which the folder is made
INTERPOLATED = re.compile(r"\$\{([^{}]*)\}")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A composition: the task's part as written and as resolved, Hydra's part, and the sweep's folder."""

    written: Mapping[str, Any]
    resolved: Mapping[str, Any]
    hydra: Mapping[str, Any]
    folder: Path
    sources: frozenset[str]  # what its values are interpolated from


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A job: what it trains, where, and what was put into its base.

    `folder` is absolute: a worker has a working directory of its own.
    """

    number: int
    overrides: tuple[str, ...]
    base: Base
    put: Mapping[str, Any]
    spec: RunSpec
    folder: RunFolder
    device: str
    threads: int
    compiled: bool
    parallel: Parallel
    tracker: Mapping[str, Any]
    pruning: int | None


@dataclass(kw_only=True)
class Composer:
    """Composes the jobs of a sweep, whose configuration is `config`, as Hydra's `loader` would.

    `elsewhere`: whether they are for another machine, whose devices nobody here knows.
    """

    loader: ConfigLoader
    config: DictConfig
    elsewhere: bool = False
    _common: Mapping[str, Any] = field(init=False)
    _bases: dict[tuple[str, ...], Base] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._common = _container(self.config)

    def job(self, overrides: Sequence[str], number: int) -> Composed:
        """The job of these overrides, which hold all of the task's; `Refused` as `plan` refuses."""
        read = [parsed(line) for line in overrides]
        base, put = self._base(overrides, read)
        plain = with_values(base.resolved, put)
        spec = spec_from_config(plain)
        device, threads = preflight.device_and_threads(plain, elsewhere=self.elsewhere)
        return Composed(
            number=number,
            overrides=tuple(overrides),
            base=base,
            put=put,
            spec=spec,
            folder=RunFolder(base.folder / spec.fingerprint),
            device=device,
            threads=threads,
            compiled=preflight.compiled(plain),
            parallel=preflight.spread(plain, spec),
            tracker=sink_of(plain["tracker"], sweeper=str(base.hydra["sweeper"]["_target_"])),
            pruning=preflight.pruning(plain),
        )

    def _base(self, overrides: Sequence[str], read: Sequence[Override]) -> tuple[Base, dict[str, Any]]:
        lines = tuple(line for line, each in zip(overrides, read, strict=True) if not self._is_plain(each))
        base = self._bases.get(lines)
        if base is None:
            base = self._bases[lines] = self._composed(overrides)
        put = {each.key_or_group: each.value() for each in read if self._is_plain(each)}
        if not base.sources.intersection(put):
            return base, put
        whole = tuple(overrides)  # something follows a value that was to be put in
        if whole not in self._bases:
            self._bases[whole] = self._composed(overrides)
        return self._bases[whole], {}

    def _is_plain(self, override: Override) -> bool:
        key = override.key_or_group
        if override.is_add() or override.is_delete() or override.package or key in PLACES:
            return False
        there: Any = self._common
        for part in key.split("."):
            if not isinstance(there, Mapping) or part not in there:
                return False
            there = there[part]
        value = override.value()
        return not isinstance(there, Mapping) and not isinstance(value, list | dict) and "${" not in str(value)

    def _composed(self, overrides: Sequence[str]) -> Base:
        whole = self.loader.load_sweep_config(self.config, list(overrides))
        written = _container(whole)
        hydra = written.pop("hydra")
        return Base(
            written=written,
            resolved=as_mapping(whole),
            hydra=hydra,
            folder=Path(str(OmegaConf.select(whole, "hydra.sweep.dir"))).absolute(),
            sources=frozenset(INTERPOLATED.findall(str(written))),
        )


def _container(config: DictConfig) -> dict[str, Any]:
    found = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


@cache
def parsed(line: str) -> Override:
    """An override as Hydra reads it."""
    return OverridesParser.create().parse_override(line)


def with_values(config: Mapping[str, Any], put: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with other values at these dotted keys; what is not touched is shared."""
    found = dict(config)
    fresh: dict[str, dict[str, Any]] = {"": found}
    for key, value in put.items():
        *groups, name = key.split(".")
        at, path = found, ""
        for group in groups:
            path = f"{path}{group}."
            if path not in fresh:
                fresh[path] = at[group] = dict(at[group])
            at = fresh[path]
        at[name] = value
    return found
