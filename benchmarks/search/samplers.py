"""The samplers by name, each made for a problem, a seed and a number of trials."""

import importlib.util
import warnings
from collections.abc import Callable

import optuna
from optuna.samplers import CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from scalelab.samplers import sampler_class
from search.carbs_peer import carbs_search
from search.peer import OptunaSearch, OurSearch, Search, TwoObjectives
from search.problem import Problem
from search.smac_peer import smac_search
from search.unavailable import Unavailable

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Clip non-finite values")

PROXY_SHARE = 0.01  # of the full run's compute, at which settings are tuned to be copied
POPULATION = 10  # of the genetic search: Optuna's 50 would breed nothing in a hundred trials


def cmaes(problem: Problem, seed: int, trials: int) -> Search:
    if importlib.util.find_spec("cmaes") is None:
        raise Unavailable("cmaes needs the package cmaes: pip install cmaes")
    return OptunaSearch(problem, CmaEsSampler(seed=seed, warn_independent_sampling=False))


def law(problem: Problem, seed: int, trials: int, *, overhead_flops: float | None = None) -> Search:
    sampler = sampler_class("law")(
        scales=problem.scales,
        target=problem.target,
        cost=problem.cost_flops,
        sizes=problem.sizes,
        start=problem.start,
        overhead_flops=overhead_flops,
        seed=seed,
    )
    return OurSearch(problem, sampler, lambda study: sampler.recommend(study).params)


def carbs(problem: Problem, seed: int, trials: int) -> Search:
    sampler = sampler_class("carbs")(seed=seed, centres=problem.start, max_cost=problem.full_flops)
    return OurSearch(problem, sampler, lambda study: sampler.recommend(study, cost=problem.full_flops))


SAMPLERS: dict[str, Callable[[Problem, int, int], Search]] = {
    "random": lambda problem, seed, trials: OptunaSearch(problem, RandomSampler(seed=seed)),
    "qmc": lambda problem, seed, trials: OptunaSearch(
        problem, QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False, warn_asynchronous_seeding=False)
    ),
    "tpe": lambda problem, seed, trials: OptunaSearch(problem, TPESampler(seed=seed)),
    "tpe2": lambda problem, seed, trials: TwoObjectives(problem, TPESampler(seed=seed)),
    "gp": lambda problem, seed, trials: OptunaSearch(problem, GPSampler(seed=seed)),
    "tpe-cmax": lambda problem, seed, trials: OptunaSearch(problem, TPESampler(seed=seed), fixed=problem.target),
    "gp-cmax": lambda problem, seed, trials: OptunaSearch(problem, GPSampler(seed=seed), fixed=problem.target),
    "gp-proxy": lambda problem, seed, trials: OptunaSearch(
        problem, GPSampler(seed=seed), fixed=problem.at_share(PROXY_SHARE)
    ),
    "nsga2": lambda problem, seed, trials: TwoObjectives(problem, NSGAIISampler(seed=seed, population_size=POPULATION)),
    "cmaes": cmaes,
    "smac": smac_search,
    "imbue": carbs_search,
    "carbs": carbs,
    "law": law,
}
