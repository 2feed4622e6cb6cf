"""Seconds a suggestion, on one thread and four coordinates, where a study already has so many runs."""

import time

import numpy as np
from optuna.distributions import BaseDistribution

from search.problem import Params, Problem, ends
from search.problems import PROBLEMS
from search.report import number, table
from search.samplers import SAMPLERS
from search.unavailable import Unavailable

KNOWN = (300, 1_000)  # runs
SUGGESTIONS = 3


def anywhere(space: dict[str, BaseDistribution], rng: np.random.Generator) -> Params:
    """A configuration drawn over ranges on a log scale."""
    return {name: float(np.exp(rng.uniform(*np.log(ends(each))))) for name, each in space.items()}


def seconds(problem: Problem, sampler: str, known: int) -> float:
    """The median of a few suggestions, each told before the next is asked for."""
    rng = np.random.default_rng(known)
    search = SAMPLERS[sampler](problem, 0, known + SUGGESTIONS)
    for _ in range(known):
        params = anywhere(dict(problem.space), rng)
        search.learn(params, problem.observed(params, rng), problem.cost_flops(params))
    search.ask()  # the start, which waits to be run
    taken = []
    for _ in range(SUGGESTIONS):
        start = time.perf_counter()
        handle, params = search.ask()
        taken.append(time.perf_counter() - start)
        search.tell(handle, problem.observed(params, rng), problem.cost_flops(params))
    return float(np.median(taken))


def speed(samplers: list[str]) -> str:
    """The table; a sampler that cannot be run here is left out with a line."""
    problem, rows, absent = PROBLEMS["bent"](0), [], []
    for sampler in samplers:
        try:
            rows.append([sampler, *(number(seconds(problem, sampler, known)) for known in KNOWN)])
        except Unavailable as error:
            absent.append(f"left out: {error}")
    return "\n".join([*absent, table(["sampler", *(f"{known:,} runs: s a suggestion" for known in KNOWN)], rows)])
