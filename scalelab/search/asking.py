"""Which trials a driver takes next: those that a driver left which is no more, then new ones, as the budget allows.

All of it happens while this process alone asks, so that the sampler sees what everybody is at work on, and what all of
them together will have spent.
"""

import time
import warnings
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from optuna.trial import FrozenTrial, TrialState

from scalelab.claims import Claim
from scalelab.errors import Refused
from scalelab.search.history import History, history, waiting
from scalelab.search.objectives import Told
from scalelab.search.orders import Orders
from scalelab.search.owners import Driver, Work, work_of
from scalelab.search.problem import Problem
from scalelab.search.sampler import grid_size
from scalelab.search.study import Study
from scalelab.search.underway import Underway
from scalelab.trials import Outcome


def trials_left(problem: Problem, past: History) -> int:
    """How many trials are still to be told: new settings, and those that are to be gone on with."""
    most = int(min(problem.settings.n_trials, grid_size(problem.settings, problem.space)))
    return max(0, most - past.told) + past.due


@dataclass(kw_only=True)
class Asking:
    """What a driver may still ask: `asks` trials, each once, so that one that crashes waits for another launch.

    `short` says that the budget did not allow for a trial that waits.
    """

    problem: Problem
    study: Study
    driver: Driver
    orders: Orders
    asks: int = field(init=False)
    short: bool = False
    _told: int = 0
    _costs: dict[int, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.asks = trials_left(self.problem, self.past())

    def past(self) -> History:
        return history(self.study.optuna, self.study.rule)

    def look(self, past: History) -> None:
        """Where something was told since, what waited for a larger budget is tried again."""
        told = len(past.ended) + len(past.pruned) + len(past.crashed)
        if told != self._told:
            self._told, self.short = told, False

    def may_ask(self, past: History) -> bool:
        """Whether a new trial is wanted beside those that run."""
        return not self.short and self.asks > 0 and trials_left(self.problem, past) > len(past.pending)

    def others(self, past: History) -> set[str]:
        """The other drivers that trials belong to; some may be no more."""
        owners = {work.owner for trial in past.pending if (work := work_of(trial.user_attrs)) is not None}
        return {owner for owner in owners if owner is not None and owner != self.driver.name}

    def left(self, past: History, underway: Container[int], estates: Container[str]) -> list[FrozenTrial]:
        """The trials that run and are ours to take."""
        return [trial for trial in past.pending if self._is_left(trial, underway, estates)]

    def take(self, most: int, underway: Container[int], estates: Container[str], mine: Claim) -> list[Underway]:
        """Up to `most` trials, each this driver's from now on.

        Args:
            most: how many.
            underway: the numbers of those that it has.
            estates: drivers that are no more, whose trials are ours to take.
            mine: by which this process alone asks; one that was stopped meanwhile, and taken for dead, takes nothing.
        """
        past = self.past()
        left = self.left(past, underway, estates)
        taken = {trial.number for trial in left}
        paid = dict(past.spent)
        for trial in past.pending:
            if trial.number not in taken and not _waits(trial) and _is_whole(trial, self.problem):
                self._pay(paid, trial)
        found: list[Underway] = []
        running = len(past.pending)
        while len(found) < most:
            if left:
                trial = left.pop(0)
            elif not self.short and self.asks > 0 and trials_left(self.problem, past) > running:
                trial = self._ask()
                running += 1
                if not mine.held:
                    self._withdraw(trial.number)
            else:
                break
            if not mine.held:
                break
            self.asks = max(self.asks - 1, len(waiting(self.study.optuna, self.study.rule)))
            if (under := self._taken(trial, paid)) is not None:
                found.append(under)
        return found

    def _withdraw(self, number: int) -> None:
        """Give up a trial that was asked while others were, unless one of them has it already."""
        trial = self.study.optuna.get_trials(deepcopy=False)[number]
        if trial.state is TrialState.RUNNING and work_of(trial.user_attrs) is None:
            self.study.tell(trial, crashed("asked by a process that was stopped"), self.problem.settings.objectives)

    def _is_left(self, trial: FrozenTrial, underway: Container[int], estates: Container[str]) -> bool:
        work = work_of(trial.user_attrs)
        if work is None:  # nobody lives to ask it: whoever asks is alone
            return True
        if work.owner is None:
            return not self.short
        lost = work.owner == self.driver.name and trial.number not in underway  # the storage went away while it was had
        return lost or work.owner in estates

    def _taken(self, trial: FrozenTrial, paid: dict[str, float]) -> Underway | None:
        """A trial as this driver's; None where it is none, or has to wait for a larger budget."""
        if not _is_whole(trial, self.problem):
            self.study.tell(trial, crashed("killed before it had its parameters"), self.problem.settings.objectives)
            return None
        try:
            runs = self.problem.runs(trial.params)
        except Refused as refused:
            self.study.tell(trial, crashed(str(refused)), self.problem.settings.objectives)
            raise
        before = work_of(trial.user_attrs) or Work(owner=None, since=time.time())
        wanted = dict(paid)
        self._pay(wanted, trial)
        if sum(wanted.values()) > self.problem.settings.budget_flops:
            self.short = True
            self.study.note(trial.number, replace(before, owner=None))
            return None
        if (work := self._recalled(before)) is None:
            return None
        paid.update(wanted)
        work = replace(work, owner=self.driver.name, since=time.time())
        self.study.note(trial.number, work)
        self.orders.take_over(work)
        return Underway(trial=trial, runs=runs, rule=self.study.rule, work=work)

    def _recalled(self, work: Work) -> Work | None:
        """With the tickets that its driver did not live to note; None where nobody can say just now."""
        if work.label is None:
            return work
        if (ticket := self.orders.works.recall(work.label)) is None:
            return None
        tickets = dict.fromkeys(work.handed, ticket) if ticket else {}
        return replace(work, tickets={**work.tickets, **tickets}, label=None, handed=())

    def _pay(self, paid: dict[str, float], trial: FrozenTrial) -> None:
        """Add what the runs of a trial cost that are not paid for."""
        if trial.number not in self._costs:
            runs = self.problem.runs(trial.params)
            there = self.study.tokens_there(trial, decayed=runs[0].spec.horizon.schedule != "constant")
            self._costs[trial.number] = {
                run.spec.fingerprint: run.spec.cost_flops * (1 - there / run.spec.horizon.tokens) for run in runs
            }
        for name, cost in self._costs[trial.number].items():
            paid.setdefault(name, cost)

    def _ask(self) -> FrozenTrial:
        try:
            with (
                warnings.catch_warnings()
            ):  # GPSampler's of an infinite loss, which it takes for the largest finite one
                warnings.filterwarnings("ignore", message="Clip non-finite values")
                return self.study.ask(self.problem.space)
        except ValueError as error:  # how Optuna's samplers refuse a study
            if isinstance(error, Refused) or not str(self.problem.settings.sampler["_target_"]).startswith("optuna."):
                raise
            raise Refused(f"{self.problem.settings.sampler_name}: {str(error).splitlines()[0]}") from None


def crashed(reason: str) -> Told:
    """What is told of a trial that teaches nothing."""
    return Told(outcome=Outcome.FAILED, values=None, attributes={"outcome": "FAILED", "reason": reason})


def _is_whole(trial: FrozenTrial, problem: Problem) -> bool:
    """Whether its asker lived to give it all of its parameters."""
    return trial.state is TrialState.RUNNING and set(trial.params) == set(problem.space.distributions)


def _waits(trial: FrozenTrial) -> bool:
    """Whether it waits for a larger budget."""
    work = work_of(trial.user_attrs)
    return work is not None and work.owner is None
