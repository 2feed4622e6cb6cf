"""What is searched, and on what: from a setting's parameters to its runs and their cost, before any is paid for."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scalelab.composing import Multirun, as_mapping, refusing
from scalelab.config import spec_from_config
from scalelab.errors import Refused
from scalelab.plan import PlannedRun, planned
from scalelab.readers.optuna_study import JOURNAL, shown
from scalelab.search.settings import Settings, read
from scalelab.search.space import Space, space_of
from scalelab.spec import RunSpec, as_plain, leaves


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A search as it was asked for. Parameters are a mapping from the keys of `space` to values.

    `dry`: nothing is to be run, so that a device need not be on this machine.
    """

    asked: Multirun
    settings: Settings
    space: Space
    dry: bool = False

    @property
    def name(self) -> str:
        """Of the study, Optuna's too."""
        return str(self.asked.common.study)

    @property
    def folder(self) -> Path:
        """Of the study: its runs, its journal, its result."""
        return self.asked.folder

    @property
    def storage_shown(self) -> str:
        """Where its study is kept, as it may be printed."""
        return str(self.folder / JOURNAL) if self.settings.storage is None else shown(self.settings.storage)

    @cached_property
    def tuning_seeds(self) -> tuple[int, ...]:
        return self.settings.tuning_seeds or (self.spec({}).seed,)

    @cached_property
    def _costs(self) -> dict[tuple[Any, ...], int]:
        return {}

    def runs(self, params: Mapping[str, Any], seeds: Sequence[int] | None = None) -> tuple[PlannedRun, ...]:
        """The runs of a setting, one a seed (left out: the seeds that are tuned on).

        Raises:
            Refused: where they are not accepted, with the setting.
        """
        seeds = self.settings.tuning_seeds if seeds is None else seeds
        overrides = [self.space.overrides(params, seed=seed) for seed in seeds or (None,)]
        with _of(params):
            return planned((self.asked.job(each) for each in overrides), dry=self.dry).runs

    def spec(self, params: Mapping[str, Any]) -> RunSpec:
        """The run of a setting as it is stated, of any size; what is not given is at its first value."""
        full = {parameter.key: parameter.ends[0] for parameter in self.space.parameters} | dict(params)
        with _of(full), refusing():
            return spec_from_config(as_mapping(self.asked.job(self.space.overrides(full, seed=None)).config))

    def cost_flops(self, params: Mapping[str, Any]) -> int:
        """Training FLOPs of one run of a setting, in the space or beyond it; remembered, as samplers ask often."""
        nearest = self.space.nearest(params)
        key = tuple(nearest.items())
        if key not in self._costs:
            self._costs[key] = self.spec(nearest).cost_flops
        return self._costs[key]

    def check(self) -> tuple[RunSpec, RunSpec]:
        """The cheapest and the dearest run of the space, by its corners, after two ends at a time were tried together.

        Raises:
            Refused: where any of those runs is not accepted.
        """
        first: dict[str, Any] = {parameter.key: parameter.ends[0] for parameter in self.space.parameters}
        for params in _neighbours(self.space, first):
            self.runs(params)
        cheapest, dearest = dict(first), dict(first)
        for parameter in self.space.parameters:
            costs = {end: self.cost_flops(first | {parameter.key: end}) for end in parameter.ends}
            cheapest[parameter.key] = min(costs, key=costs.__getitem__)
            dearest[parameter.key] = max(costs, key=costs.__getitem__)
        return self.runs(cheapest)[0].spec, self.runs(dearest)[0].spec

    @cached_property
    def identity(self) -> dict[str, dict[str, Any]]:
        """What must be the same for a trial to say anything about this problem, by kind and by name."""
        at_first = replace(self.spec({}), seed=0)
        fixed = dict(leaves(as_plain(at_first)))
        return {
            "space": {parameter.key: str(parameter) for parameter in self.space.parameters},
            "objectives": {str(place): name for place, name in enumerate(self.settings.objectives)},
            "tuning_seeds": {str(place): seed for place, seed in enumerate(self.tuning_seeds)},
            "pruner": {key: value for key, value in self.settings.pruner.items() if value != "none"},
            "fixed": {
                key: value for key, value in fixed.items() if not key.startswith(("data.options", "command.options"))
            },
        }


def problem_of(asked: Multirun, *, dry: bool = False) -> Problem:
    """The search that a multirun is.

    Raises:
        Refused: on a space or a setting that is not accepted.
    """
    settings = read(asked.sweeper)
    space = space_of(asked.asked, choices=settings.is_ours)
    if "seed" in space.distributions and (settings.tuning_seeds or settings.testing_seeds):
        raise Refused("seed is searched and tuning_seeds or testing_seeds are given: leave the seed out of the space")
    problem = Problem(asked=asked, settings=settings, space=space, dry=dry)
    if shared := sorted(set(problem.tuning_seeds) & set(settings.testing_seeds)):
        raise Refused(f"seed {shared[0]} is tuned on and in testing_seeds: a test is of seeds that were not tuned on")
    return problem


@contextmanager
def _of(params: Mapping[str, Any]) -> Iterator[None]:
    """A refusal says of which setting it is."""
    try:
        yield
    except Refused as refused:
        said = ", ".join(f"{key}={value}" for key, value in params.items())
        raise Refused(f"the run with {said} is not accepted: {refused}") from None


def _neighbours(space: Space, first: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The first corner, and those in which one or two parameters are at another of their ends."""
    ends = [(parameter.key, end) for parameter in space.parameters for end in parameter.ends]
    found = {
        tuple({**first, **dict(moved)}.items()): {**first, **dict(moved)}
        for moved in itertools.combinations_with_replacement(ends, 2)
        if moved[0] == moved[1] or moved[0][0] != moved[1][0]
    }
    yield from found.values()
