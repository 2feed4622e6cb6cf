"""The runs that a driver has handed over: which of them nobody is at work on any more, and which are given up."""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from scalelab import claims
from scalelab.jobs import CLAIM
from scalelab.search.owners import Work
from scalelab.search.works import HERE, Label, Ordered, Works
from scalelab.trials import TRIAL_FILE, Outcome, RunFolder, Trial

RETRIES = 2  # of a run that crashed or was lost, before it is given up


@dataclass(kw_only=True)
class Orders:
    """What is known of runs, by name: the last ticket, how often they were handed over since which step, and so on."""

    works: Works
    tickets: dict[str, str] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    given_up: dict[str, Trial] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def idle(self, wanted: Iterable[Ordered]) -> list[Ordered]:
        """Those of the runs that have not ended and nobody is at work on: to be handed over; others are given up.

        One that an engine knows no more of is looked for once more: what ended it may be seen here a moment later.
        """
        runs = {order.name: order for order in reversed(list(wanted)) if order.name not in self.given_up}
        known = {self.tickets[name] for name in runs if name in self.tickets}
        alive = self.works.alive(known) if known else set()  # asked before the folders are looked at
        found = []
        for name, order in runs.items():
            ticket = self.tickets.get(name)
            if order.came is not None or ticket in alive or _is_claimed(order.run.folder):
                self.gone.discard(name)
            elif ticket not in (None, HERE) and name not in self.gone:
                self.gone.add(name)
            elif self.tries.get(name, 0) > RETRIES and not self._came_further(order):
                self.given_up[name] = _failed(order, "" if ticket is None else self.works.why(ticket))
            else:
                found.append(order)
        return found[::-1]

    def submit(self, orders: Mapping[Label, Sequence[Ordered]]) -> None:
        """Hand runs over; `Refused` where they are not taken."""
        tickets = self.works.submit(orders)
        for label, each in orders.items():
            for order in each:
                self.tickets[order.name] = tickets[label]
                self.gone.discard(order.name)

    def tried(self, orders: Iterable[Ordered]) -> None:
        """They are about to be handed over; one that was killed and had come further is as if for the first time."""
        for order in orders:
            further = self._came_further(order)
            self.tries[order.name] = 1 if further else self.tries.get(order.name, 0) + 1
            if further or order.name not in self.steps:
                self.steps[order.name] = _step(order)

    def settle(self, orders: Iterable[Ordered], ticket: str | None) -> None:
        """They were handed over with others, some of which were not taken; these were if they have a ticket."""
        for order in orders:
            if ticket:
                self.tickets[order.name] = ticket
            else:
                self.tries[order.name] -= 1

    @property
    def elsewhere(self) -> bool:
        """Whether an engine has taken anything."""
        return any(ticket != HERE for ticket in self.tickets.values())

    def is_here(self, names: Iterable[str]) -> bool:
        """Whether there is no ticket of these runs that another process could ask for."""
        return all(self.tickets.get(name, HERE) == HERE for name in names)

    def noted(self, work: Work, names: Iterable[str]) -> Work:
        """With what is known of these runs."""
        runs = list(names)
        return replace(
            work,
            tries={name: self.tries[name] for name in runs if name in self.tries},
            steps={name: self.steps[name] for name in runs if name in self.steps},
            tickets={name: self.tickets[name] for name in runs if self.tickets.get(name, HERE) != HERE},
        )

    def take_over(self, work: Work) -> None:
        """Know what was noted."""
        self.tickets.update(work.tickets)
        self.tries.update(work.tries)
        self.steps.update(work.steps)

    def _came_further(self, order: Ordered) -> bool:
        return order.name in self.steps and _step(order) > self.steps[order.name]


def _step(order: Ordered) -> int:
    """The last step that its curve has."""
    records = order.run.folder.metrics()
    return int(records[-1]["step"]) if records else 0


def _is_claimed(folder: RunFolder) -> bool:
    newest = claims.last(folder.path / CLAIM) if folder.path.is_dir() else 0
    return newest > 0 and claims.looks_alive(folder.path / f"{CLAIM}.{newest}", now=time.time())


def _failed(order: Ordered, why: str) -> Trial:
    """The trial that a run left when it crashed, or that it left none."""
    folder = order.run.folder
    if (folder.path / TRIAL_FILE).exists() and (there := folder.read()).outcome is Outcome.FAILED:
        return there
    reason = why or "it was lost"
    return Trial(spec=order.run.spec, outcome=Outcome.FAILED, loss_nats=None, reason=f"{1 + RETRIES} times: {reason}")


def new_label() -> str:
    """Letters and digits that nothing else is handed over under."""
    return uuid.uuid4().hex[:12]
