"""Samplers side by side on problems whose truth is known: what their recommendation costs at the full run, and theirs.

    python benchmarks/search.py --samplers random,tpe,gp,law --seeds 0-11 --workers 2 --cache ~/search_cache
    python benchmarks/search.py --report --cache ~/search_cache    the tables again, as markdown
    python benchmarks/search.py --workers-ask 8                    eight trials asked before any is told
    python benchmarks/search.py --speed --samplers tpe,gp,law      seconds a suggestion in large studies
    python benchmarks/search.py --robustness                       what users do to a sampler
    python benchmarks/search.py --recovery                         how often the law's intervals hold the truth

A cached search is not run again, whatever has changed since: delete its folder to. Seeds 0 to 11 are for reporting,
others for developing a sampler.
"""

# ruff: noqa: E402 - threads are set before numpy is loaded
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import itertools
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from search.carbs_peer import CHECKOUT
from search.problems import PROBLEMS
from search.recovery import recovery
from search.report import report
from search.robustness import robustness
from search.runs import Job, finish
from search.samplers import SAMPLERS
from search.speed import speed
from search.unavailable import Unavailable


def numbers(text: str) -> list[int]:
    """Seeds such as 0-11 or 100,102."""
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return [seed for part in ends for seed in range(part[0], part[-1] + 1)]


def chosen(text: str, known: Mapping[str, object]) -> list[str]:
    names = text.split(",")
    if wrong := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: accepted are {', '.join(known)}")
    return names


def attempt(job: Job, cache: Path) -> str | None:
    """Why a job cannot be run here, or None when it is done."""
    try:
        finish(job, cache)
    except Unavailable as error:
        return str(error)
    return None


def run(jobs: list[Job], cache: Path, workers: int) -> None:
    if workers == 1:
        said = [attempt(job, cache) for job in jobs]
    else:
        with ProcessPoolExecutor(workers) as pool:
            said = list(pool.map(attempt, jobs, itertools.repeat(cache)))
    for line in dict.fromkeys(filter(None, said)):
        print(f"left out: {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=lambda text: chosen(text, PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--samplers", type=lambda text: chosen(text, SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--seeds", type=numbers, default=numbers("0-11"), help="such as 0-11 or 100,102")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1, help="processes, a search each")
    parser.add_argument("--workers-ask", type=int, default=1, help="trials asked before any of them is told")
    parser.add_argument("--cache", type=Path, help="a folder: what it has is not run again")
    parser.add_argument("--carbs-path", type=Path, help=f"a checkout of imbue-ai/carbs, or ${CHECKOUT}")
    parser.add_argument("--speed", action="store_true", help="seconds a suggestion of these samplers, and nothing else")
    parser.add_argument("--robustness", action="store_true", help="our samplers on what breaks one, and nothing else")
    parser.add_argument("--recovery", action="store_true", help="the law's intervals of exponents, and nothing else")
    parser.add_argument("--report", action="store_true", help="only print what the cache has")
    given = parser.parse_args()
    if given.report and given.cache is None:
        parser.error("--report needs --cache")
    if given.carbs_path:
        os.environ[CHECKOUT] = str(given.carbs_path.resolve())
    if given.speed or given.robustness or given.recovery:
        print(speed(given.samplers) if given.speed else robustness() if given.robustness else recovery())
        return
    with tempfile.TemporaryDirectory() as empty:
        cache = given.cache or Path(empty)
        if not given.report:
            jobs = [
                Job(problem=problem, sampler=sampler, seed=seed, trials=given.trials, batch=batch)
                for problem, sampler, seed in itertools.product(given.problems, given.samplers, given.seeds)
                for batch in sorted({1, given.workers_ask})
            ]
            run(jobs, cache, given.workers)
        print(report(cache, given.problems, given.samplers, given.seeds, given.workers_ask))


if __name__ == "__main__":
    main()
