"""What a sampler is to the benchmark: it is asked for runs, told how they ended, and may recommend."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import optuna
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from search.problem import CEILING, Params, Problem

Told = tuple[float, ...]


class Search(Protocol):
    """One search of one problem."""

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """A handle, and the configuration to run."""

    def tell(self, handle: Any, loss: float, cost_flops: float) -> None:
        """How a run ended; its loss is infinite where it diverged."""

    def learn(self, params: Params, loss: float, cost_flops: float) -> None:
        """A run that it did not ask for."""

    def recommend(self) -> Params | None:
        """A configuration at the target, or None where that is left to the rule for all."""


class OptunaSearch:
    """A study over the coordinates that are not fixed, beginning at the problem's start, moved to a scale that is."""

    def __init__(self, problem: Problem, sampler: BaseSampler, *, fixed: Params | None = None) -> None:
        self.fixed, self.sampler = dict(fixed or {}), sampler
        self.space = {name: each for name, each in problem.space.items() if name not in self.fixed}
        self.study = optuna.create_study(directions=["minimize"] * len(self.told(0.0, 1.0)), sampler=sampler)
        start = problem.moved(problem.start, self.fixed) if self.fixed else problem.start
        self.study.enqueue_trial({name: start[name] for name in self.space})

    def told(self, loss: float, cost_flops: float) -> Told:
        """A run that diverged is told as infinite: Optuna's samplers then take it for as bad as the worst that ended.

        Told as CEILING instead, TPE asks for the same runs and the GP does worse.
        """
        return (loss,)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.study.ask(self.space)
        return trial, {**trial.params, **self.fixed}

    def tell(self, handle: Any, loss: float, cost_flops: float) -> None:
        self.study.tell(handle, list(self.told(loss, cost_flops)))

    def learn(self, params: Params, loss: float, cost_flops: float) -> None:
        known = {name: params[name] for name in self.space}
        trial = create_trial(params=known, distributions=self.space, values=list(self.told(loss, cost_flops)))
        self.study.add_trial(trial)

    def recommend(self) -> Params | None:
        return None


class TwoObjectives(OptunaSearch):
    """The same, minimising the loss and ln(cost); hypervolumes want a finite loss of a run that diverged."""

    def told(self, loss: float, cost_flops: float) -> Told:
        return min(loss, CEILING), math.log(cost_flops)


class OurSearch(OptunaSearch):
    """A study of (loss, cost) as scalelab's samplers take it, and what they advise once a run has ended well."""

    def __init__(self, problem: Problem, sampler: BaseSampler, advise: Callable[[Study], Params]) -> None:
        super().__init__(problem, sampler)
        self.advise = advise

    def told(self, loss: float, cost_flops: float) -> Told:
        return loss, cost_flops

    def recommend(self) -> Params | None:
        ended = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return self.advise(self.study) if any(math.isfinite(trial.values[0]) for trial in ended) else None
