"""A search looked at from beside it: what is told since, who is at work, and how it is ended."""

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from scalelab.console import say
from scalelab.errors import Refused
from scalelab.readers.optuna_trials import outcome_of
from scalelab.search.history import history
from scalelab.search.owners import Work, ask_to_stop, forget_stop, living, work_of
from scalelab.search.problem import Problem, problem_of
from scalelab.search.study import Study, exclusively, existing
from scalelab.search.works import Works
from scalelab.search_views import quiet
from scalelab.searching.engines import works_of
from scalelab.searching.request import Request
from scalelab.show_search import written

STOP_SECONDS = 5.0  # for drivers to see that they are to end, before those of this machine are told by a signal
POLL_SECONDS = 0.5


@dataclass(kw_only=True)
class Watch:
    """What of a search was shown already."""

    problem: Problem
    console: Console
    shown: set[int] | None = None

    def look(self) -> None:
        """A line for every trial that was told since the last look."""
        try:
            with quiet():
                past = history(existing(self.problem))
        except Refused:  # the storage is away: whoever works says so where it cannot wait any longer
            return
        told = sorted((*past.ended, *past.pruned, *past.crashed), key=lambda trial: trial.number)
        if self.shown is None:  # what was told before somebody looked
            self.shown = {trial.number for trial in told}
            return
        for trial in told:
            if trial.number not in self.shown:
                self.shown.add(trial.number)
                say(self.console, f"{past.told}/{self.problem.settings.n_trials} · {_came(trial)}")


def _came(trial: FrozenTrial) -> str:
    outcome = trial.user_attrs.get("outcome", outcome_of(trial))
    loss = f" {trial.values[0]:.4f} nats" if outcome == "OK" and trial.values else ""
    work = work_of(trial.user_attrs)
    by = "" if work is None or work.owner is None else f" · {work.owner}"
    return f"trial {trial.number}: {written(trial.params)} · {outcome}{loss}{by}"


def watch(study: Path, problem: Problem, console: Console) -> None:
    """Show progress as long as a driver is at work."""
    looking = Watch(problem=problem, console=console)
    looking.look()
    while living(study):
        looking.look()
        time.sleep(POLL_SECONDS)


def interrupted(study: Path, console: Console) -> int:
    """What is said at Ctrl-C, and the exit status."""
    say(console, f"left; what was handed over goes on, and nothing is lost: scalelab search attach {study}")
    return 128 + signal.SIGINT


def stop(request: Request, console: Console) -> None:
    """Ask all drivers of a search to end, and cancel what they have handed over."""
    asked = request.asked
    problem = problem_of(asked)
    drivers = living(problem.folder)
    for name in drivers:
        ask_to_stop(problem.folder, name)
    _wait_for(problem.folder, drivers, STOP_SECONDS)
    for name, holder in living(problem.folder).items():
        if name in drivers and holder.alive:
            with suppress(ProcessLookupError, PermissionError):  # it ended since, or is another user's
                os.kill(holder.pid, signal.SIGTERM)
    _wait_for(problem.folder, drivers, STOP_SECONDS)
    left = [name for name in living(problem.folder) if name in drivers]
    for name in set(drivers) - set(left):
        forget_stop(problem.folder, name)
    with works_of(asked) as (works, _):
        cancelled = _cancel(problem, works, left)
    say(console, f"{len(drivers) - len(left)} of {len(drivers)} drivers ended, {cancelled} orders cancelled")
    for name in left:
        say(console, f"{name} ends as soon as it looks, after the run that it trains at the latest", "yellow")
    say(console, f"to go on: scalelab search attach {problem.folder}")


def _cancel(problem: Problem, works: Works, left: Collection[str]) -> int:
    """Cancel the orders of trials whose drivers have ended, and let these wait for anybody; how many orders."""
    with quiet():
        found = existing(problem)
        if found is None:
            return 0
        study = Study(optuna=found, storage=found._storage, rule=None)
        with exclusively(problem.folder):
            works_by_trial = {
                trial.number: work
                for trial in found.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                if (work := work_of(trial.user_attrs)) is not None and work.owner not in left
            }
            tickets = {ticket for work in works_by_trial.values() for ticket in work.tickets.values()}
            tickets |= {
                ticket for work in works_by_trial.values() if work.label and (ticket := works.recall(work.label))
            }
            if tickets:
                works.cancel(tickets)
            for number, work in works_by_trial.items():
                study.note(number, Work(owner=None, since=work.since))
    return len(tickets)


def _wait_for(study: Path, drivers: Collection[str], seconds: float) -> None:
    until = time.monotonic() + seconds
    while set(living(study)) & set(drivers) and time.monotonic() < until:
        time.sleep(POLL_SECONDS / 2)
