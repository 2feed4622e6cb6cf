"""One driver of a search: it asks, hands over, looks, and tells, beside whoever else does.

What it does is kept with its trials (`owners.Work`) before it is done, and what came of a run stands in the run's
folder: killed at any moment it loses nothing, and nothing is asked, trained or told twice.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from optuna.trial import FrozenTrial, TrialState

from scalelab.claims import Claim
from scalelab.errors import Refused
from scalelab.pruners.continuing import CONTINUES
from scalelab.search.asking import Asking
from scalelab.search.objectives import Told
from scalelab.search.orders import Orders, new_label
from scalelab.search.owners import Driver, estates, work_of
from scalelab.search.problem import Problem
from scalelab.search.storage import steadily
from scalelab.search.study import Study, exclusively
from scalelab.search.underway import Underway
from scalelab.search.works import Ordered
from scalelab.show_search import written
from scalelab.trials import Outcome

CRASHES = 3  # trials given up in a row that end a search: it is the machine, not the setting
SUBMIT_SECONDS = 900.0  # with an engine that takes nothing more, once it took something

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(kw_only=True)
class Searching:
    """A driver, and what it has under way: up to `most` trials, as `loop.search` says."""

    problem: Problem
    study: Study
    driver: Driver
    orders: Orders
    say: Say
    most: int
    together: bool
    poll_seconds: float
    underway: dict[int, Underway] = field(default_factory=dict)
    crashes: int = 0
    refused: float | None = None  # since when the engine takes nothing
    asking: Asking = field(init=False)

    def __post_init__(self) -> None:
        self.asking = self.steadily(
            lambda: Asking(problem=self.problem, study=self.study, driver=self.driver, orders=self.orders)
        )

    def run(self) -> bool:
        """Until nothing is left to ask and nobody is at work on a trial; whether it was not asked to end before."""
        while not self.driver.is_to_stop:
            idle = self._idle()
            round_ = self.steadily(self._round)
            for line in round_.lines:
                self.say(line)
            if not (self.underway or round_.changed or round_.others):
                self._say_why_it_ends()
                return True
            submitted = self._submit(self._idle() if round_.changed else idle)
            if not submitted and not round_.changed:
                time.sleep(self.poll_seconds)
        return False

    def _idle(self) -> list[Ordered]:
        return self.orders.idle(order for each in self.underway.values() if each.goes_on for order in each.orders)

    def _round(self) -> "_Round":
        """Tell what has ended, take what is to be done next; the study is this process's only while there is any."""
        past = self.asking.past()
        self.asking.look(past)
        ended = {
            number: found
            for number, each in self.underway.items()
            if (found := each.advance(self.orders.given_up, self.study.stops)) is not None
        }
        waits = self.together and len(ended) < len(self.underway)
        room = 0 if waits or self.crashes >= CRASHES else self.most - len(self.underway) + len(ended)
        others = self.asking.others(past) if self.crashes < CRASHES else set()
        with ExitStack() as claims:
            dead = set()
            for owner, estate in estates(self.problem.folder, others if room else ()):
                claims.callback(estate.release, done=True)
                dead.add(owner)
            wanted = room and (self.asking.left(past, self.underway, dead) or self.asking.may_ask(past))
            if not (ended and not waits) and not wanted and self.driver.held:
                return _Round(others=bool(others))
            with exclusively(self.problem.folder) as mine:
                if not self.driver.held:
                    self.driver.begin_again()
                    self.underway.clear()
                    return _Round(lines=[f"taken for dead: goes on as {self.driver.name}"], changed=True)
                lines = self._told(ended, mine) if not waits else []
                room = self.most - len(self.underway) if room and self.crashes < CRASHES else 0
                taken = self.asking.take(room, self.underway, dead, mine)
                self.underway |= {each.trial.number: each for each in taken}
        return _Round(lines=lines, changed=bool(lines or taken), others=bool(others))

    def _told(self, ended: Mapping[int, Told], mine: Claim) -> list[str]:
        """Tell what this driver still has, while the study is its own; a line each."""
        lines = []
        trials = self.study.optuna.get_trials(deepcopy=False)
        for number, found in ended.items():
            if not mine.held:
                break
            work = work_of(trials[number].user_attrs)
            if trials[number].state is TrialState.RUNNING and work is not None and work.owner == self.driver.name:
                self.study.tell(trials[number], found, self.problem.settings.objectives)
                self.crashes = self.crashes + 1 if found.outcome is Outcome.FAILED else 0
                lines.append(self._line(trials[number], found))
            del self.underway[number]
        return lines

    def _submit(self, idle: Sequence[Ordered]) -> bool:
        """Hand over what nobody is at work on, noted before and after; whether anything was."""
        if not idle or not self.driver.held:
            return False
        wanting = {
            order.name: each for each in reversed(self.underway.values()) if each.goes_on for order in each.orders
        }
        of_trial: dict[int, list[Ordered]] = {}
        for order in idle:
            of_trial.setdefault(wanting[order.name].trial.number, []).append(order)
        labels = {number: new_label() for number in of_trial}
        self.orders.tried(idle)
        for number, orders in of_trial.items():
            names = tuple(order.name for order in orders)
            self._note(number, label=labels[number], handed=names)
        try:
            self.orders.submit({labels[number]: orders for number, orders in of_trial.items()})
        except Refused as refused:
            for number, orders in of_trial.items():
                self.orders.settle(orders, self.orders.works.recall(labels[number]))
            self._wait_for_engine(refused)
            return False
        self.refused = None
        for number in of_trial:
            if not self.orders.is_here(self.underway[number].work.handed):
                self._note(number, label=None, handed=())
        return True

    def _note(self, number: int, **changed: Any) -> None:
        each = self.underway[number]
        each.work = replace(self.orders.noted(each.work, (run.spec.fingerprint for run in each.runs)), **changed)
        self.steadily(lambda: self.study.note(number, each.work))

    def _wait_for_engine(self, refused: Refused) -> None:
        """An engine that took runs before may do so again: a queue that is full, a scheduler that is restarted."""
        now = time.monotonic()
        if not self.orders.elsewhere or (self.refused is not None and now - self.refused > SUBMIT_SECONDS):
            raise refused
        if self.refused is None:
            self.refused = now
            self.say(f"not taken, to be tried again: {refused}")

    def steadily(self, action: Callable[[], T]) -> T:
        """What an action returns, when the storage is there."""
        return steadily(action, where=self.problem.storage_shown, say=self.say)

    def _say_why_it_ends(self) -> None:
        if self.crashes >= CRASHES:
            self.say(f"{CRASHES} trials in a row crashed: the search ends here, launch again for the rest")
        elif self.asking.short:
            budget = self.problem.settings.budget_flops
            self.say(f"the next trial would exceed budget_flops={budget:.3g}: it waits for more")

    def _line(self, trial: FrozenTrial, found: Told) -> str:
        past = self.asking.past()
        if found.outcome is Outcome.PRUNED:
            came = f"pruned by {found.attributes['reason']}"
        elif found.values is None:
            came = f"crashed: {found.attributes['reason']}"
        else:
            came = f"{found.values['loss_nats']:.4f} nats" if found.outcome is Outcome.OK else "diverged"
        best = f", best {past.best_first[0].values[0]:.4f}" if past.best_first else ""
        done = f"{past.told}/{self.problem.settings.n_trials}"
        before = trial.user_attrs.get(CONTINUES)
        on = "" if before is None else f" · goes on with trial {before}"
        return f"{done} · {written(trial.params)}{on} · {came}{best} · {past.spent_flops:.2e} FLOPs in all"


@dataclass(frozen=True, kw_only=True)
class _Round:
    """What came of one: what is to be said, whether anything was told or taken, whether others have trials."""

    lines: Sequence[str] = ()
    changed: bool = False
    others: bool = False
