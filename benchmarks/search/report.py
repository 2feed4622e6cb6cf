"""The tables, as markdown: medians over seeds, with quartiles and the worst."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from search.judged import GOOD, ROWS, Judged, Row, judged
from search.problems import PROBLEMS
from search.runs import Job, Record, read
from search.unavailable import Unavailable

AFTER = (10, 30, 60, 100)  # trials
WITHIN = (0.5, 1, 2, 5, 14)  # full runs
SAME = 1e-3  # of every coordinate's range: two runs nearer than this are one run twice


def report(cache: Path, problems: Sequence[str], samplers: Sequence[str], seeds: Sequence[int], batch: int) -> str:
    """Every table that the cache's searches of these problems, samplers and seeds give."""
    rows = [row for row in ROWS if row.sampler in samplers]
    parts: list[str] = []
    for problem in problems:
        found = {row: _judged(cache, problem, row, seeds) for row in rows}
        known = {row: searches for row, searches in found.items() if searches}
        if not known:
            continue
        parts += [f"## {problem}", _unsearched(problem, seeds), after_trials(known), within_compute(known)]
        if batch > 1:
            parts.append(in_batches(cache, problem, known, seeds, batch))
    return "\n\n".join(parts) or "nothing to report: the cache has none of these searches"


def _records(cache: Path, problem: str, sampler: str, seeds: Iterable[int], batch: int = 1) -> dict[int, list[Record]]:
    """The searches that the cache has, by seed."""
    jobs = [Job(problem=problem, sampler=sampler, seed=seed, trials=0, batch=batch) for seed in seeds]
    return {job.seed: found for job in jobs if (found := read(job.path(cache)))}


def _judged(cache: Path, problem: str, row: Row, seeds: Iterable[int], batch: int = 1) -> list[Judged]:
    return [judged(found, row.rule) for found in _records(cache, problem, row.sampler, seeds, batch).values()]


def _unsearched(problem: str, seeds: Sequence[int]) -> str:
    """What the start's settings cost at the target, before any search."""
    try:
        made = [PROBLEMS[problem](seed) for seed in seeds]
    except Unavailable as error:
        return str(error)
    cost = np.median([each.regret(each.raised(each.start)) for each in made])
    return f"The start's settings at the target, without any search: {cost:.2g} %."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Two digits.

    >>> number(0.0312), number(31.2), number(float("inf")), number(float("nan"))
    ('0.031', '31', 'never', '–')
    """
    if np.isnan(value):
        return "–"
    if np.isinf(value):
        return "never"
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def spread(values: Sequence[float]) -> str:
    """Median (quartiles; worst) of the searches that got this far, and how many where not all did."""
    reached = np.array(values)[~np.isnan(values)]
    if not len(reached):
        return "–"
    low, middle, high, worst = (number(q) for q in np.quantile(reached, [0.25, 0.5, 0.75, 1.0]))
    return (middle if len(values) == 1 else f"{middle} ({low}–{high}; {worst})") + _of(len(reached), len(values))


def _of(part: int, whole: int) -> str:
    return "" if part == whole else f" [{part} of {whole}]"


def after_trials(found: dict[Row, list[Judged]]) -> str:
    """Regret beside the compute spent, after so many trials."""

    def cell(searches: list[Judged], trials: int) -> str:
        regret, spent = np.array([search.after(trials) for search in searches]).T
        known = spent[~np.isnan(spent)]
        return f"{spread(list(regret))} / {number(float(np.median(known)))}" if len(known) else "–"

    return "Regret, % of loss: median (quartiles; worst) / full runs spent, after so many trials\n\n" + table(
        ["sampler", "seeds", *map(str, AFTER), "s a suggestion"],
        [
            [
                row.label,
                str(len(searches)),
                *(cell(searches, trials) for trials in AFTER),
                number(float(np.median([search.seconds for search in searches]))),
            ]
            for row, searches in found.items()
        ],
    )


def within_compute(found: dict[Row, list[Judged]]) -> str:
    """Regret when a budget of full runs is spent, and what a good recommendation takes."""

    def until(searches: list[Judged], stays: bool) -> str:
        spent = np.array([search.spent_until_good(stays=stays) for search in searches])
        return number(float(np.quantile(spent, 0.5, method="lower"))) + _of(int(np.isfinite(spent).sum()), len(spent))

    return (
        f"Regret, %, within so many full runs; full runs until it is at most {GOOD} % and stays so, and at first"
        "\n\n"
        + table(
            ["sampler", *map(str, WITHIN), f"≤ {GOOD} % for good", "at first"],
            [
                [
                    row.label,
                    *(spread([search.within(budget) for search in searches]) for budget in WITHIN),
                    until(searches, True),
                    until(searches, False),
                ]
                for row, searches in found.items()
            ],
        )
    )


def in_batches(cache: Path, problem: str, rows: Iterable[Row], seeds: Sequence[int], batch: int) -> str:
    """What asking for several trials before any is told costs, and how many of a batch are a run twice."""
    lines = []
    for row in rows:
        alone = _judged(cache, problem, row, seeds)
        if together := _judged(cache, problem, row, seeds, batch):
            regrets = [[spread([each.after(n)[0] for each in some]) for some in (alone, together)] for n in AFTER]
            found = _records(cache, problem, row.sampler, seeds, batch)
            shares = [twice(each, PROBLEMS[problem](seed).space, batch) for seed, each in found.items()]
            lines.append([row.label, *itertools.chain(*regrets), f"{100 * np.mean(shares):.2g}"])
    head = [f"{n}, {how}" for n in AFTER for how in ("one at a time", f"{batch} at a time")]
    return f"Regret, %, with {batch} trials asked before any is told\n\n" + table(
        ["sampler", *head, "% asked twice in a batch"], lines
    )


def twice(found: Sequence[Record], space: Mapping[str, BaseDistribution], batch: int) -> float:
    """Share of the trials that are nearer than SAME to an earlier one of their batch."""
    unit_TD = np.array([[_unit(each, record.params[name]) for name, each in space.items()] for record in found])
    repeated = 0
    for first in range(0, len(unit_TD), batch):
        apart_BB = np.abs(unit_TD[first : first + batch, None] - unit_TD[None, first : first + batch]).max(axis=2)
        repeated += int((np.tril(apart_BB < SAME, -1)).any(axis=1).sum())
    return repeated / len(found)


def _unit(each: BaseDistribution, value: Any) -> float:
    """A coordinate between 0 and 1, by its logarithm; a choice by its number."""
    if isinstance(each, CategoricalDistribution):
        return float(each.choices.index(value))
    assert isinstance(each, FloatDistribution)
    return math.log(value / each.low) / math.log(each.high / each.low)
