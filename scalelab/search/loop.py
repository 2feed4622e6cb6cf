"""Ask, launch, tell: batches of a search until its trials or its budget are used up."""

import warnings
from collections.abc import Callable

from optuna.trial import FrozenTrial

from scalelab.errors import Refused
from scalelab.pruners.continuing import CONTINUES
from scalelab.search.batch import Asked, Launch, finish, ran
from scalelab.search.checked import check_pruner
from scalelab.search.history import History, history, waiting
from scalelab.search.objectives import Told
from scalelab.search.problem import Problem
from scalelab.search.pruning import write_pruning
from scalelab.search.result import result_of, test_plan, winner
from scalelab.search.sampler import grid_size, recommendation, sampler_of
from scalelab.search.study import Study, opened
from scalelab.search.warm_start import warm_start
from scalelab.search_views import quiet
from scalelab.show_search import written
from scalelab.trials import Outcome

CRASHES = 3  # trials given up in a row that end a search: it is the machine, not the setting

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
    check_pruner(problem, sampler)
    with opened(problem, sampler) as study:
        if study.rule is not None:
            url = problem.settings.storage
            write_pruning(problem.folder, url=url, study=problem.name, rule=study.rule)
        study.optuna.add_trials(warm_start(problem, study.optuna).trials)
        _batches(problem, study, launch, say)
        past = history(study.optuna, study.rule)
        finish(test_plan(problem, past).runs, launch)
        recommended = recommendation(sampler, study.optuna) if winner(past) else None
        result_of(problem, past, recommended).write(problem.folder)


def trials_left(problem: Problem, past: History) -> int:
    """How many trials are still to be told: new settings, and those that are to be gone on with."""
    most = int(min(problem.settings.n_trials, grid_size(problem.settings, problem.space)))
    return max(0, most - past.told) + past.due


def _batches(problem: Problem, study: Study, launch: Launch, say: Say) -> None:
    asks = trials_left(
        problem, history(study.optuna, study.rule)
    )  # each once: one that crashes waits for another launch
    crashes = 0
    while asks > 0 and crashes < CRASHES:
        batch, affordable = _batch(problem, study, min(problem.settings.n_jobs, asks))
        for asked, found in ran(problem, study, batch, launch):
            study.tell(asked.trial, found, problem.settings.objectives)
            crashes = crashes + 1 if found.outcome is Outcome.FAILED else 0
            say(_line(problem, study, asked.trial, found))
        asks = max(asks - len(batch), len(waiting(study.optuna, study.rule)))
        if not affordable:
            say(f"the next trial would exceed budget_flops={problem.settings.budget_flops:.3g}: it waits for more")
            return
    if crashes == CRASHES:
        say(f"{CRASHES} trials in a row crashed: the search ends here, launch again for the rest")


def _batch(problem: Problem, study: Study, most: int) -> tuple[list[Asked], bool]:
    """Up to `most` trials, those first that a killed process left; whether the budget allows for all of them."""
    batch: list[Asked] = []
    past = history(study.optuna, study.rule)
    paid, pending = dict(past.spent), list(past.pending)
    while len(batch) < most:
        trial = pending.pop(0) if pending else _ask(problem, study)
        if set(trial.params) != set(problem.space.distributions):
            study.tell(trial, _crashed("killed before it had its parameters"), problem.settings.objectives)
            continue
        try:
            runs = problem.runs(trial.params)
        except Refused as refused:
            study.tell(trial, _crashed(str(refused)), problem.settings.objectives)
            raise
        there = study.tokens_there(trial, decayed=runs[0].spec.horizon.schedule != "constant")
        for run in runs:
            paid.setdefault(run.spec.fingerprint, run.spec.cost_flops * (1 - there / run.spec.horizon.tokens))
        if sum(paid.values()) > problem.settings.budget_flops:
            return batch, False
        batch.append(Asked(trial=trial, runs=runs))
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


def _crashed(reason: str) -> Told:
    return Told(outcome=Outcome.FAILED, values=None, attributes={"outcome": "FAILED", "reason": reason})


def _line(problem: Problem, study: Study, trial: FrozenTrial, found: Told) -> str:
    past = history(study.optuna, study.rule)
    if found.outcome is Outcome.PRUNED:
        came = f"pruned by {found.attributes['reason']}"
    elif found.values is None:
        came = f"crashed: {found.attributes['reason']}"
    else:
        came = f"{found.values['loss_nats']:.4f} nats" if found.outcome is Outcome.OK else "diverged"
    best = f", best {past.best_first[0].values[0]:.4f}" if past.best_first else ""
    done = f"{past.told}/{problem.settings.n_trials}"
    before = trial.user_attrs.get(CONTINUES)
    on = "" if before is None else f" · goes on with trial {before}"
    return f"{done} · {written(trial.params)}{on} · {came}{best} · {past.spent_flops:.2e} FLOPs in all"
