"""conf/hydra/sweeper/optuna.yaml as it was composed, every value checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from scalelab.errors import Refused, unknown
from scalelab.search.objectives import OBJECTIVES
from scalelab.values import integer, real


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to search; the keys are explained where they are set.

    `tuning_seeds` is None where the configuration's own seed is used. `storage` is None for the journal in the study's
    folder.
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
        storage=None if plain["storage"] is None else str(plain["storage"]),
        warm_start=_listed(plain, "warm_start"),
        tuning_seeds=tuning,
        testing_seeds=testing,
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
