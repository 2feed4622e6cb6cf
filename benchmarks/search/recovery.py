"""Does the law's posterior know what it knows? On `synth5`, how often an exponent's 95 % interval holds the truth."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from search.peer import Search
from search.problem import Problem
from search.samplers import law

Intervals = Mapping[str, tuple[float, float]]

# How the best settings and the floor of search.hoffmann move with parameters and tokens; weight decay by its timescale.
TRUTHS = {
    "lr by params": -0.713,
    "lr by tokens": 0.307,
    "batch by params": 0.0,
    "batch by tokens": 0.571,
    "wd by params": 0.713,
    "wd by tokens": 0.571 - 0.307 - 1,
    "loss by params": -0.34,
    "loss by tokens": -0.28,
}


def searched(problem: Problem, seed: int, trials: int) -> Search:
    """A search by the law, its trials run."""
    search = law(problem, seed, trials)
    for number in range(trials):
        handle, params = search.ask()
        loss = problem.observed(params, np.random.default_rng([seed, number]))
        search.tell(handle, loss, problem.cost_flops(params))
    return search


def held(
    problem: Problem, intervals: Callable[[Search], Intervals], seeds: Iterable[int], trials: int
) -> dict[str, tuple[float, int]]:
    """The share of studies whose interval holds the truth, and how many gave one, by exponent.

    Args:
        intervals: of a finished search, by the names of TRUTHS; those that it has no interval of are left out.
    """
    inside: dict[str, list[bool]] = {name: [] for name in TRUTHS}
    for seed in seeds:
        for name, (low, high) in intervals(searched(problem, seed, trials)).items():
            inside[name].append(low <= TRUTHS[name] <= high)
    return {name: (float(np.mean(found)), len(found)) for name, found in inside.items() if found}
