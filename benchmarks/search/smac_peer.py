"""SMAC3 (arXiv:2109.09831): a random forest and expected improvement, told runs from outside. `pip install smac`"""

import logging
import tempfile
from functools import partial
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution

from search.peer import Search
from search.problem import CEILING, Params, Problem
from search.unavailable import Unavailable


class SmacSearch:
    """Its usual facade with each configuration run once, the start first."""

    def __init__(self, problem: Problem, seed: int, trials: int) -> None:
        import ConfigSpace
        import smac.facade
        from smac import runhistory

        self.runhistory = runhistory
        space = ConfigSpace.ConfigurationSpace(seed=seed)
        for name, each in problem.space.items():
            if isinstance(each, CategoricalDistribution):
                space.add(ConfigSpace.CategoricalHyperparameter(name, each.choices))
            else:
                assert isinstance(each, FloatDistribution)
                space.add(ConfigSpace.UniformFloatHyperparameter(name, each.low, each.high, log=True))
        self.configuration = partial(ConfigSpace.Configuration, space)
        self.start = self.configuration(dict(problem.start))
        self.folder = tempfile.TemporaryDirectory()
        scenario = smac.Scenario(
            space, deterministic=True, n_trials=trials, seed=seed, output_directory=self.folder.name
        )
        facade = smac.facade.HyperparameterOptimizationFacade
        self.smac = facade(
            scenario,
            lambda config, seed=0: 0.0,  # never called: it is told instead
            intensifier=facade.get_intensifier(scenario, max_config_calls=1),
            logging_level=logging.ERROR,
        )
        self.started = False

    def ask(self) -> tuple[Any, dict[str, Any]]:
        info = self.smac.ask() if self.started else self.runhistory.TrialInfo(self.start, seed=0)
        self.started = True
        return info, {
            name: value.item() if isinstance(value, np.generic) else value for name, value in dict(info.config).items()
        }

    def tell(self, handle: Any, loss: float, cost_flops: float) -> None:
        self.smac.tell(handle, self.runhistory.TrialValue(cost=min(loss, CEILING)), save=False)

    def learn(self, params: Params, loss: float, cost_flops: float) -> None:
        configuration = self.configuration(dict(params))
        self.tell(self.runhistory.TrialInfo(configuration, seed=0), loss, cost_flops)

    def recommend(self) -> Params | None:
        return None


def smac_search(problem: Problem, seed: int, trials: int) -> Search:
    try:
        return SmacSearch(problem, seed, trials)
    except ImportError as error:
        raise Unavailable(f"smac needs the package smac: pip install smac ({error})") from None
