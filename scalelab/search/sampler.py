"""Which sampler proposes: any of Optuna's or ours, made from its configuration, over our spaces."""

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import optuna
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from scalelab.errors import Refused
from scalelab.pruners.idhb import IdhbSampler
from scalelab.search.settings import Settings
from scalelab.search.space import Space
from scalelab.search_views import quiet

NEEDS = {"optuna.samplers.CmaEsSampler": "cmaes"}  # packages that Optuna itself does not bring
GRID = "scalelab.search.sampler.GridSampler"
COSTED = ("scalelab.samplers.carbs.sampler.CarbsSampler",)  # take a loss and a cost
ALONE = ("optuna.samplers.CmaEsSampler",)  # take no second objective


def sampler_of(settings: Settings, space: Space, *, cost: Callable[[Mapping[str, Any]], float]) -> BaseSampler:
    """The sampler of these settings; `cost`, FLOPs of a run by its parameters, for one that asks for it by `bind`.

    One that has a `check` says there what it does not accept of the space, before a run is paid for.

    Raises:
        Refused: on a class that is not there, arguments that it does not take, or a space or objectives that it cannot
            search.
    """
    target = str(settings.sampler["_target_"])
    if (package := NEEDS.get(target)) and importlib.util.find_spec(package) is None:
        raise Refused(f"{settings.sampler_name} needs the package {package}: pip install {package}")
    if target in ALONE and len(settings.objectives) > 1:
        raise Refused(
            f"{settings.sampler_name} takes one objective, not {', '.join(settings.objectives)}:"
            " set hydra.sweeper.objectives=[loss_nats], or take another sampler"
        )
    if target in COSTED and settings.objectives[1:] != ("cost_flops",):
        raise Refused(
            f"{settings.sampler_name} minimises a loss and a cost, not {', '.join(settings.objectives)}:"
            " set hydra.sweeper.objectives=[loss_nats,cost_flops]"
        )
    given = {"search_space": _grid(space)} if target == GRID else {}
    try:
        with quiet():
            sampler = instantiate(settings.sampler, **given, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, Refused):
            raise cause from None
        raise Refused(f"sampler {target}: {' '.join(str(cause).split())}") from None
    if not isinstance(sampler, BaseSampler):
        raise Refused(f"sampler {target} is no sampler of Optuna's: accepted are subclasses of BaseSampler")
    if bind := getattr(sampler, "bind", None):
        bind(cost=cost)
    if check := getattr(sampler, "check", None):
        check(space.distributions)
    nearest = NearestSampler(sampler, space) if any(p.is_scale for p in space.parameters) else sampler
    return IdhbSampler(nearest) if settings.pruner_name == "idhb" else nearest


def innermost(sampler: BaseSampler) -> BaseSampler:
    """The sampler that proposes, without those around it."""
    while isinstance(sampler, IdhbSampler | NearestSampler):
        sampler = sampler.inner
    return sampler


def recommendation(sampler: BaseSampler, study: optuna.Study) -> dict[str, Any] | None:
    """The setting that a sampler recommends by all that was told, and what it says of it; None of most samplers."""
    if (recommend := getattr(innermost(sampler), "recommend", None)) is None:
        return None
    found = recommend(study)
    return asdict(found) if is_dataclass(found) and not isinstance(found, type) else {"params": dict(found)}


def _grid(space: Space) -> dict[str, list[Any]]:
    for parameter in space.parameters:
        if parameter.values is None:
            raise Refused(f"{parameter} is an interval: a grid takes range(…) or values, other samplers take intervals")
    return {parameter.key: list(parameter.values or ()) for parameter in space.parameters}


def grid_size(settings: Settings, space: Space) -> float:
    """How many trials there are to ask for: those of a grid, otherwise without end."""
    if settings.sampler["_target_"] != GRID:
        return math.inf
    return math.prod(len(values) for values in _grid(space).values())


class GridSampler(optuna.samplers.GridSampler):
    """Optuna's, which ends `Study.optimize` after the last of its trials: with ask and tell we count them ourselves."""

    def after_trial(self, *_: object) -> None: ...


class NearestSampler(BaseSampler):
    """A sampler whose numbers go to the nearest that the space accepts, before they are stored as a trial's own."""

    def __init__(self, sampler: BaseSampler, space: Space) -> None:
        self.inner = sampler
        self._space = space

    def __str__(self) -> str:
        return str(self.inner)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._space.nearest(self.inner.sample_relative(study, trial, search_space))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        value = self.inner.sample_independent(study, trial, param_name, param_distribution)
        return self._space.nearest({param_name: value})[param_name]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.inner.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self.inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self.inner.reseed_rng()
