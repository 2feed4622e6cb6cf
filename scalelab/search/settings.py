"""conf/hydra/sweeper/optuna.yaml as it was composed, every value checked."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue

from scalelab.errors import Refused, unknown
from scalelab.readers.optuna_study import shown
from scalelab.search.objectives import OBJECTIVES
from scalelab.values import integer, real

ENVIRONMENT = re.compile(r"\$\{oc\.env:[A-Za-z_]\w*\}")
PASSWORD = re.compile(r"(?<=[?&]password)=[^&#]*|(?<=[?&]passwd)=[^&#]*")
SECRET = re.compile(r"://[^/@:]*:([^@]*)@|[?&](?:password|passwd)=([^&#]*)")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to search; the keys are explained where they are set.

    `tuning_seeds` is None where the configuration's own seed is used. `storage` is None for the journal in the study's
    folder, else as it was written: `${oc.env:NAME}` in it is read where the storage is opened.
    """

    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    n_trials: int
    n_jobs: int
    budget_flops: float
    objectives: tuple[str, ...]
    storage: str | None
    warm_start: tuple[str, ...]
    tuning_seeds: tuple[int, ...] | None
    testing_seeds: tuple[int, ...]

    @property
    def sampler_name(self) -> str:
        return str(self.sampler["_target_"]).rpartition(".")[2]

    @property
    def pruner_name(self) -> str:
        """Of `scalelab.pruners`, or "none"."""
        return str(self.pruner["name"])

    @property
    def is_ours(self) -> bool:
        """Whether the sampler is one of `scalelab.samplers`."""
        return str(self.sampler["_target_"]).startswith("scalelab.samplers.")


def read(config: DictConfig) -> Settings:
    """The settings of a sweeper's configuration; `Refused` on a value that is not accepted."""
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise Refused(f"{error.full_key} is not given, and has no usual value") from None
    except InterpolationResolutionError as error:
        raise Refused(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    raw: Any = OmegaConf.to_container(config, resolve=False)
    objectives = _listed(plain, "objectives")
    if not objectives or len(set(objectives)) < len(objectives):
        raise Refused(f"objectives={list(objectives)}: accepted are different ones of {', '.join(OBJECTIVES)}")
    for name in objectives:
        if name not in OBJECTIVES:
            raise unknown("objective", name, OBJECTIVES)
    if objectives[0] != "loss_nats":
        raise Refused(
            f"objectives={list(objectives)}: accepted is loss_nats as the first, it is what a recipe is chosen by"
        )
    for source in _listed(raw, "warm_start") if isinstance(raw["warm_start"], list) else ():
        _refuse_secret("warm_start", source)
    if not isinstance(plain["sampler"], dict) or "_target_" not in plain["sampler"]:
        raise Refused(f"sampler={plain['sampler']!r}: accepted is a choice of hydra/sweeper/sampler=NAME")
    if not isinstance(plain["pruner"], dict) or "name" not in plain["pruner"]:
        raise Refused(f"pruner={plain['pruner']!r}: accepted is a choice of hydra/sweeper/pruner=NAME")
    tuning = None if plain["tuning_seeds"] is None else _seeds(plain, "tuning_seeds")
    testing = _seeds(plain, "testing_seeds")
    if tuning == ():
        raise Refused("tuning_seeds=[]: accepted is at least one, or null for the configuration's seed")
    return Settings(
        sampler=plain["sampler"],
        pruner=plain["pruner"],
        n_trials=_positive(plain, "n_trials"),
        n_jobs=_positive(plain, "n_jobs"),
        budget_flops=_budget(plain["budget_flops"]),
        objectives=objectives,
        storage=_storage(raw["storage"], plain["storage"]),
        warm_start=_listed(plain, "warm_start"),
        tuning_seeds=tuning,
        testing_seeds=testing,
    )


def _storage(raw: Any, resolved: Any) -> str | None:
    """A storage as it is kept: what is read from the environment stays unread."""
    if resolved is None:
        return None
    text = str(raw)
    if not ENVIRONMENT.search(text):
        text = str(resolved)
    elif "${" in ENVIRONMENT.sub("", text):
        raise Refused(f"storage={shown(text)}: beside ${{oc.env:NAME}} nothing is interpolated there")
    _refuse_secret("storage", text)
    return text


def _refuse_secret(key: str, source: str) -> None:
    """Refuse a URL whose password could be read where it is kept: multirun.yaml, search.request.json."""
    if any(found[1] or found[2] for found in SECRET.finditer(ENVIRONMENT.sub("", source))):
        raise Refused(
            f"{key}={PASSWORD.sub('=***', shown(source))}: a password is not kept; accepted are ${{oc.env:NAME}} in its"
            " place, and none, with ~/.pgpass or $PGPASSWORD"
        )


def _positive(plain: Mapping[str, Any], name: str) -> int:
    if (value := integer(name, plain[name])) < 1:
        raise Refused(f"{name}={value}: accepted is a whole number of at least 1")
    return value


def _budget(given: Any) -> float:
    value = math.inf if given is None else real("budget_flops", given)
    if not value > 0:
        raise Refused(f"budget_flops={given}: accepted is a number of FLOPs above 0, or null for no limit")
    return value


def _listed(plain: Mapping[str, Any], name: str) -> tuple[str, ...]:
    if not isinstance(plain[name], list):
        raise Refused(f"{name}={plain[name]!r}: accepted is a list, {name}=[…]")
    return tuple(str(item) for item in plain[name])


def _seeds(plain: Mapping[str, Any], name: str) -> tuple[int, ...]:
    found = tuple(integer(name, item) for item in _listed(plain, name))
    if len(set(found)) < len(found) or any(seed < 0 for seed in found):
        raise Refused(f"{name}={list(found)}: accepted are different whole numbers of at least 0")
    return found
