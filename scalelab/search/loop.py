"""A search: its study begun or found, driven to its end beside whoever else is at it, its winner tested."""

import time
from collections.abc import Sequence

from optuna.samplers import BaseSampler

from scalelab.claims import claim
from scalelab.readers.optuna_study import AT_WORK
from scalelab.search.checked import check_pruner
from scalelab.search.driving import Say, Searching
from scalelab.search.orders import Orders, new_label
from scalelab.search.owners import FINAL, at_work
from scalelab.search.problem import Problem
from scalelab.search.pruning import write_pruning
from scalelab.search.result import result_of, test_plan, winner
from scalelab.search.sampler import recommendation, sampler_of
from scalelab.search.study import exclusively, opened
from scalelab.search.warm_start import warm_start
from scalelab.search.works import Ordered, Works
from scalelab.search_views import quiet

POLL_SECONDS = 1.0


def search(
    problem: Problem, works: Works, say: Say, *, most: int, together: bool = False, poll_seconds: float = POLL_SECONDS
) -> None:
    """Run a search to its end beside whoever else is at it, or go on where it was.

    Args:
        problem: what is searched.
        works: where its runs are trained.
        say: takes a line about each trial.
        most: trials under way at a time.
        together: whether they are asked in batches, each when all of the one before have ended; else one as soon as
            another has.
        poll_seconds: between two looks at what is under way.

    Raises:
        Refused: on a sampler, a storage or a setting that is not accepted.
    """
    with quiet():
        sampler = sampler_of(problem.settings, problem.space, cost=problem.cost_flops)
        check_pruner(problem, sampler)
        study = opened(problem, sampler)
        if study.rule is not None:
            write_pruning(problem.folder, url=problem.settings.storage, study=problem.name, rule=study.rule)
        with exclusively(problem.folder):
            study.optuna.add_trials(warm_start(problem, study.optuna).trials)
        with at_work(problem.folder) as driver:
            at = Searching(
                problem=problem, study=study, driver=driver, orders=Orders(works=works), say=say, most=most,
                together=together, poll_seconds=poll_seconds,
            )  # fmt: skip
            if at.run():
                _finish(at, sampler)


def _finish(at: Searching, sampler: BaseSampler) -> None:
    """Test the winner, one driver at a time, and write the result."""
    mark = at.problem.folder / AT_WORK / FINAL
    while (mine := claim(mark)) is None:
        time.sleep(at.poll_seconds)
    try:
        past = at.steadily(at.asking.past)
        _made(at, [Ordered(run=run) for run in test_plan(at.problem, past).runs])
        optuna = at.study.optuna
        recommended = at.steadily(lambda: recommendation(sampler, optuna) if winner(past) else None)
        result_of(at.problem, past, recommended).write(at.problem.folder)
    finally:
        mine.release()


def _made(at: Searching, wanted: Sequence[Ordered]) -> None:
    """Have runs made that are no trial's."""
    while not at.driver.is_to_stop:
        idle = at.orders.idle(wanted)
        if not idle and all(each.came is not None or each.name in at.orders.given_up for each in wanted):
            return
        if idle:
            at.orders.tried(idle)
            at.orders.submit({new_label(): idle})
        else:
            time.sleep(at.poll_seconds)
