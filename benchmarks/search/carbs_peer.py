"""CARBS as imbue-ai published it (arXiv:2306.08055). It is not on PyPI: give the folder of its checkout.

It needs pyro-ppl, loguru, cattrs, seaborn and wandb beside what we need; none of it is a dependency of ours.
"""

import math
import os
import sys
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search.peer import Search
from search.problem import Params, Problem
from search.unavailable import Unavailable

CHECKOUT = "CARBS_PATH"  # environment variable


class ImbueSearch:
    """Every coordinate in its log space, a categorical one as integers; cost in full runs, which bounds a run's."""

    def __init__(self, problem: Problem, seed: int) -> None:
        import carbs
        import pyro
        from loguru import logger

        logger.disable("carbs")
        self.carbs, self.problem = carbs, problem
        self.queued: list[dict[str, Any]] = [dict(problem.start)]
        pyro.clear_param_store()  # or its fits keep the shapes of the search before, and fail
        config = carbs.CARBSParams(
            better_direction_sign=-1,
            seed=seed,
            is_wandb_logging_enabled=False,
            is_saved_on_every_observation=False,
            max_suggestion_cost=1.0,
        )
        center = self._encoded(problem.start)
        self.search = carbs.CARBS(
            config,
            [carbs.Param(name=name, space=self._space(name), search_center=center[name]) for name in problem.space],
        )

    def _space(self, name: str) -> Any:
        each = self.problem.space[name]
        if isinstance(each, CategoricalDistribution):
            return self.carbs.LinearSpace(min=0, max=len(each.choices) - 1, scale=3, is_integer=True)
        assert isinstance(each, FloatDistribution)
        return self.carbs.LogSpace(min=each.low, max=each.high)

    def _encoded(self, params: Params) -> dict[str, Any]:
        return {
            name: each.choices.index(params[name]) if isinstance(each, CategoricalDistribution) else params[name]
            for name, each in self.problem.space.items()
        }

    def _decoded(self, suggestion: Params) -> dict[str, Any]:
        """The configuration of a suggestion, rounding errors at the bounds taken away."""
        found: dict[str, Any] = {}
        for name, each in self.problem.space.items():
            if isinstance(each, CategoricalDistribution):
                found[name] = each.choices[int(suggestion[name])]
            else:
                assert isinstance(each, FloatDistribution)
                found[name] = min(max(suggestion[name], each.low), each.high)
        return found

    def ask(self) -> tuple[Any, dict[str, Any]]:
        if self.queued:
            params = self.queued.pop()
            return self._encoded(params), params
        suggestion = self.search.suggest().suggestion
        return suggestion, self._decoded(suggestion)

    def tell(self, handle: Any, loss: float, cost_flops: float) -> None:
        self.search.observe(self._observation(handle, loss, cost_flops))

    def learn(self, params: Params, loss: float, cost_flops: float) -> None:
        self.queued.clear()
        self.search.initialize_from_observations([self._observation(self._encoded(params), loss, cost_flops)])

    def _observation(self, given: dict[str, Any], loss: float, cost_flops: float) -> Any:
        spent = cost_flops / self.problem.full_flops
        return self.carbs.ObservationInParam(input=given, output=loss, cost=spent, is_failure=not math.isfinite(loss))

    def recommend(self) -> Params | None:
        return None


def carbs_search(problem: Problem, seed: int, trials: int) -> Search:
    if (checkout := os.environ.get(CHECKOUT)) and checkout not in sys.path:
        sys.path.insert(0, checkout)
    try:
        return ImbueSearch(problem, seed)
    except ImportError as error:
        raise Unavailable(
            f"imbue needs a checkout of github.com/imbue-ai/carbs in --carbs-path and its packages: {error}"
        ) from None
