"""Does the law's posterior know what it knows? On `synth5`, how often an exponent's 95 % interval holds the truth."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from scalelab.samplers.law.sampler import LawSampler
from search.peer import OurSearch, Search
from search.problem import Problem
from search.problems import PROBLEMS
from search.samplers import law

STUDIES, TRIALS = 50, 40
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


def stated(search: Search) -> Intervals:
    """The 95 % intervals of a search by the law; its loss falls with sizes, so that those exponents are negative."""
    assert isinstance(search, OurSearch) and isinstance(search.study.sampler, LawSampler)
    found: dict[str, tuple[float, float]] = {}
    for name, interval in search.study.sampler.recommend(search.study).exponents.items():
        of, size = name.split(" ~ ")
        loss = of == "floor"
        found[f"{'loss' if loss else of} by {size}"] = (
            (-interval.high, -interval.low) if loss else (interval.low, interval.high)
        )
    return found


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


def recovery() -> str:
    """A markdown table: of 50 studies of 40 trials, the share whose interval holds the truth."""
    problem = PROBLEMS["synth5"](0)
    shares = held(problem, stated, range(STUDIES), TRIALS)
    rows = [f"| {name} | {TRUTHS[name]:.3g} | {share:.0%} of {studies} |" for name, (share, studies) in shares.items()]
    return "\n".join(["| exponent | truth | inside |", "| --- | --- | --- |", *rows])
