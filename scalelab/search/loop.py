"""Ask, launch, tell: batches of a search until its trials or its budget are used up."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from scalelab.errors import Refused
from scalelab.plan import Plan, PlannedRun
from scalelab.search.history import History, history
from scalelab.search.objectives import Told, told
from scalelab.search.problem import Problem
from scalelab.search.result import result_of, test_plan, winner
from scalelab.search.sampler import grid_size, recommendation, sampler_of
from scalelab.search.study import Study, opened
from scalelab.search.warm_start import warm_start
from scalelab.search_views import quiet
from scalelab.show_search import written
from scalelab.trials import TRIAL_FILE, Outcome, Trial

RETRIES = 2  # of a run that crashed, before its trial is given up
CRASHES = 3  # trials given up in a row that end a search: it is the machine, not the setting

Launch = Callable[[list[list[str]]], object]
Say = Callable[[str], None]


def search(problem: Problem, launch: Launch, say: Say) -> None:
    """Run a search to its end, or go on where it was.

    Args:
        problem: what is searched.
        launch: runs the jobs of these overrides, and returns when all have ended.
        say: takes a line about each trial.

    Raises:
        Refused: on a sampler, a storage or a setting that is not accepted, and while another process is searching.
    """
    with quiet():
        _search(problem, launch, say)


def _search(problem: Problem, launch: Launch, say: Say) -> None:
    sampler = sampler_of(problem.settings, problem.space, cost=problem.cost_flops)
    with opened(problem, sampler) as study:
        study.optuna.add_trials(warm_start(problem, study.optuna).trials)
        _batches(problem, study, launch, say)
        past = history(study.optuna)
        _finish(test_plan(problem, past).runs, launch)
        recommended = recommendation(sampler, study.optuna) if winner(past) else None
        result_of(problem, past, recommended).write(problem.folder)


def trials_left(problem: Problem, past: History) -> int:
    """How many trials are still to be told."""
    return int(min(problem.settings.n_trials, grid_size(problem.settings, problem.space))) - len(past.ended)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    trial: FrozenTrial
    runs: tuple[PlannedRun, ...]


def _batches(problem: Problem, study: Study, launch: Launch, say: Say) -> None:
    asks = trials_left(problem, history(study.optuna))  # each once: one that crashes is made up for by another launch
    crashes = 0
    while asks > 0 and crashes < CRASHES:
        batch, affordable = _batch(problem, study, min(problem.settings.n_jobs, asks))
        _finish([run for asked in batch for run in asked.runs], launch)
        for asked in batch:
            found = _told(problem, study, asked)
            crashes = crashes + 1 if found.outcome is Outcome.FAILED else 0
            say(_line(problem, study, asked.trial, found))
        asks -= len(batch)
        if not affordable:
            say(f"the next trial would exceed budget_flops={problem.settings.budget_flops:.3g}: it waits for more")
            return
    if crashes == CRASHES:
        say(f"{CRASHES} trials in a row crashed: the search ends here, launch again for the rest")


def _batch(problem: Problem, study: Study, most: int) -> tuple[list[_Asked], bool]:
    """Up to `most` trials, those first that a killed process left; whether the budget allows for all of them."""
    batch: list[_Asked] = []
    past = history(study.optuna)
    paid, waiting = dict(past.spent), list(past.pending)
    while len(batch) < most:
        trial = waiting.pop(0) if waiting else _ask(problem, study)
        if set(trial.params) != set(problem.space.distributions):
            study.tell(trial, _crashed("killed before it had its parameters"), problem.settings.objectives)
            continue
        try:
            runs = problem.runs(trial.params)
        except Refused as refused:
            study.tell(trial, _crashed(str(refused)), problem.settings.objectives)
            raise
        paid |= {run.spec.fingerprint: run.spec.cost_flops for run in runs}
        if sum(paid.values()) > problem.settings.budget_flops:
            return batch, False
        batch.append(_Asked(trial=trial, runs=runs))
    return batch, True


def _ask(problem: Problem, study: Study) -> FrozenTrial:
    try:
        with warnings.catch_warnings():  # GPSampler's of an infinite loss, which it takes for the largest finite one
            warnings.filterwarnings("ignore", message="Clip non-finite values")
            return study.ask(problem.space)
    except ValueError as error:  # how Optuna's samplers refuse a study
        if isinstance(error, Refused) or not str(problem.settings.sampler["_target_"]).startswith("optuna."):
            raise
        raise Refused(f"{problem.settings.sampler_name}: {str(error).splitlines()[0]}") from None


def _finish(runs: Sequence[PlannedRun], launch: Launch) -> None:
    """Launch what has not ended, and what crashed again, a few times."""
    plan = Plan(runs=tuple({run.spec.fingerprint: run for run in runs}.values()))
    for _ in range(1 + RETRIES):
        if not (missing := plan.missing):
            return
        launch([list(run.task_overrides) for run in missing])


def _told(problem: Problem, study: Study, asked: _Asked) -> Told:
    trials: list[Trial] = []
    for run in asked.runs:
        if (run.folder.path / TRIAL_FILE).exists():
            trials.append(run.folder.read())
        else:
            raise Refused(f"{run.folder.path} has not ended: is another process at it? launch again when it is done")
    found = told(trials)
    study.tell(asked.trial, found, problem.settings.objectives)
    return found


def _crashed(reason: str) -> Told:
    return Told(outcome=Outcome.FAILED, values=None, attributes={"outcome": "FAILED", "reason": reason})


def _line(problem: Problem, study: Study, trial: FrozenTrial, found: Told) -> str:
    past = history(study.optuna)
    if found.values is None:
        came = f"crashed: {found.attributes['reason']}"
    else:
        came = f"{found.values['loss_nats']:.4f} nats" if found.outcome is Outcome.OK else "diverged"
    best = f", best {past.best_first[0].values[0]:.4f}" if past.best_first else ""
    done = f"{len(past.ended)}/{problem.settings.n_trials}"
    return f"{done} · {written(trial.params)} · {came}{best} · {past.spent_flops:.2e} FLOPs in all"
