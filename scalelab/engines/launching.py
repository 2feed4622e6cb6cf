"""A batch of Hydra's jobs, trained by an engine: composed, cut into orders, handed over once each, and waited for.

What came of a run is read from its folder. What is under way is read from the study's book, so that a launcher goes on
where a killed one, or another that is still there, has got to.
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, setup_globals
from omegaconf import DictConfig

from scalelab import claims
from scalelab.engines import book
from scalelab.engines.book import Book, Entry
from scalelab.engines.engine import Engine, Recalls
from scalelab.engines.settings import Settings
from scalelab.errors import Refused
from scalelab.jobs import CLAIM
from scalelab.trials import TRIAL_FILE, Outcome
from scalelab.workers.composed import Composed, Composer
from scalelab.workers.launching import asked, leave_failed, refuse_what_needs_hydras_own_job, returned
from scalelab.workers.serve import Order
from scalelab.workers.tasks import Task, tasks


def launched(
    job_overrides: Sequence[Sequence[str]], engine: Engine, settings: Settings, *, name: str, loader: ConfigLoader,
    config: DictConfig, first: int,
) -> list[JobReturn]:  # fmt: skip
    """The returns of these jobs, numbered from `first`, in their order, when all have ended.

    Args:
        job_overrides: a job each, all of the task's overrides.
        engine: where they are trained.
        settings: how.
        name: of the engine, in the book.
        loader: composes jobs.
        config: of the sweep.
        first: number of the first job.

    Raises:
        Refused: on what the engine does not take.
    """
    setup_globals()
    refuse_what_needs_hydras_own_job(config, launcher=name)
    composer = Composer(loader=loader, config=config, elsewhere=True)
    jobs = {number: composer.job(overrides, number) for number, overrides in enumerate(job_overrides, start=first)}
    batch = _Batch(jobs=jobs, engine=engine, settings=settings, name=name)
    while batch.round():
        time.sleep(settings.poll_seconds)
    return [returned(job, batch.came[number]) for number, job in jobs.items()]


@dataclass(kw_only=True)
class _Batch:
    """Jobs under way, and what came of those that have ended: a loss, none, or an error."""

    jobs: Mapping[int, Composed]
    engine: Engine
    settings: Settings
    name: str
    came: dict[int, float | Exception | None] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)
    alone: set[int] = field(default_factory=set)  # whose fault an error is shows when each runs alone
    lived: set[str] = field(default_factory=set)  # tickets that were alive while we looked

    def round(self) -> bool:
        """Look at everything once, and hand over what nobody has; whether anything is left to wait for."""
        for study, numbers in self._left().items():
            seen = book.read(study)
            tickets = {entry.ticket for number in numbers if (entry := self._entry(seen, number)) and entry.ticket}
            alive = self.engine.alive(tickets)
            self.lived |= alive  # asked before the folders are looked at: who has ended since has left its trial
            idle = [number for number in numbers if not self._ended(number, self._entry(seen, number))]
            idle = [n for n in idle if (entry := self._entry(seen, n)) is None or entry.ticket not in alive]
            if idle:
                self._see_to(study, idle, seen)
        for study in self._studies() - set(self._left()):
            self._forget(study)
        return bool(self._left())

    def _left(self) -> dict[Path, list[int]]:
        left: dict[Path, list[int]] = {}
        for number, job in self.jobs.items():
            if number not in self.came:
                left.setdefault(job.folder.path.parent, []).append(number)
        return left

    def _studies(self) -> set[Path]:
        return {job.folder.path.parent for job in self.jobs.values()}

    def _entry(self, seen: Book, number: int) -> Entry | None:
        """What this engine was given for a run; who is at it by another engine has a claim."""
        entry = seen.get(self.jobs[number].folder.path.name)
        return entry if entry is not None and entry.engine == self.name else None

    def _ended(self, number: int, entry: Entry | None) -> bool:
        """Note what came of a run, if something did that nobody is going on with."""
        job = self.jobs[number]
        try:
            trial = job.folder.final(job.spec)
            if trial is None and job.pruning is not None and entry is not None and _is_newer(job, entry):
                found = job.folder.read()
                trial = found if found.outcome is Outcome.PRUNED else None
        except Refused as refused:  # another run's folder, or a corrupt trial
            self.came[number] = refused
            return True
        if trial is not None:
            self.came[number] = trial.loss_nats
        return trial is not None

    def _see_to(self, study: Path, idle: Iterable[int], seen: Book) -> None:
        """Hand over, for the first time or again, what has no living order; what has changed meanwhile can wait."""
        with book.opened(study) as kept:
            if not self._recall(study, kept):
                return
            due = [n for n in idle if self._entry(kept, n) == self._entry(seen, n) and not self._is_claimed(n)]
            due = [number for number in due if self._is_to_go_on(number, self._entry(kept, number))]
            for number in idle:
                if number in self.came:
                    kept.pop(self.jobs[number].folder.path.name, None)
            alike: dict[tuple[str, int], list[Order]] = {}
            for order in self._orders(due):
                alike.setdefault((order.device, order.threads), []).append(order)
            for orders in alike.values():
                self._hand_over(study, kept, orders)

    def _recall(self, study: Path, kept: Book) -> bool:
        """Find the tickets that a launcher did not live to note, or strike out what it did not hand over.

        False where the engine cannot be asked just now.
        """
        torn = {run: entry for run, entry in kept.items() if entry.engine == self.name and entry.ticket is None}
        for label in {entry.label for entry in torn.values()}:
            found = self.engine.submitted_as(label) if isinstance(self.engine, Recalls) else {}
            if found is None:
                return False
            for run, entry in torn.items():
                if entry.label == label and entry.place in found:
                    kept[run] = replace(entry, ticket=found[entry.place])
                elif entry.label == label:
                    del kept[run]
        if torn:
            book.write(study, kept)
        return True

    def _is_claimed(self, number: int) -> bool:
        """Whether somebody is at the run, an order that died a moment ago on another node too as far as is known."""
        folder = self.jobs[number].folder.path
        newest = claims.last(folder / CLAIM) if folder.is_dir() else 0
        return newest > 0 and claims.looks_alive(folder / f"{CLAIM}.{newest}", now=time.time())

    def _is_to_go_on(self, number: int, entry: Entry | None) -> bool:
        """Whether a run without a living order is to have one; notes what came of it if not."""
        job = self.jobs[number]
        if self._ended(number, entry):
            return False
        if entry is None or (entry.ticket is not None and entry.ticket not in self.lived):
            return True  # new, or of a launcher before this one
        if _is_newer(job, entry) and (trial := job.folder.read()).outcome is Outcome.FAILED:
            if len(entry.runs) > 1:
                self.alone.add(number)
                return True
            self.came[number] = RuntimeError(f"{job.folder.path}: {trial.reason}")
            return False
        self.deaths[number] += 1
        if self.deaths[number] <= self.settings.retries:
            if self.deaths[number] == self.settings.retries:  # the last chance is not shared
                self.alone.add(number)
            return True
        error = RuntimeError(f"{job.folder.path}: {self.engine.why(entry.ticket or '')}")
        self.came[number] = error
        leave_failed(job, str(error))
        return False

    def _orders(self, numbers: Sequence[int]) -> list[Order]:
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number in numbers:
            job = self.jobs[number]
            single = number if number in self.alone else None
            alike = job.device, job.threads, job.compiled, job.parallel, self.deaths[number], single
            groups.setdefault(alike, []).append(number)
        return [
            self._order(task, deaths=deaths)
            for (device, _, _, parallel, deaths, _), group in groups.items()
            for task in tasks(
                {number: self.jobs[number].spec for number in group},
                workers=self.settings.workers, members=1 if parallel.spreads else self.settings.members,
                on_gpu=device.startswith("cuda"),
            )
        ]  # fmt: skip

    def _order(self, task: Task, *, deaths: int) -> Order:
        jobs = [self.jobs[number] for number in task.jobs]
        return Order(
            jobs=[asked(job) for job in jobs], device=jobs[0].device, threads=jobs[0].threads, members=task.members,
            compiled=jobs[0].compiled, halvings=deaths, parallel=jobs[0].parallel,
        )  # fmt: skip

    def _hand_over(self, study: Path, kept: Book, orders: Sequence[Order]) -> None:
        label = uuid.uuid4().hex[:12]
        entries = [
            Entry(
                engine=self.name, label=label, place=place,
                runs={job.folder.path.name: book.written(job.folder.path / TRIAL_FILE) for job in order.jobs},
            )
            for place, order in enumerate(orders)
        ]  # fmt: skip
        before = dict(kept)
        kept.update({run: entry for entry in entries for run in entry.runs})
        book.write(study, kept)
        try:
            if isinstance(self.engine, Recalls):
                tickets = self.engine.submit_as(label, orders)
            else:
                tickets = self.engine.submit(orders)
        except Refused:
            book.write(study, before)
            raise
        self.lived |= set(tickets)
        for entry, ticket in zip(entries, tickets, strict=True):
            kept.update({run: replace(entry, ticket=ticket) for run in entry.runs})
        book.write(study, kept)

    def _forget(self, study: Path) -> None:
        """Strike out what has ended."""
        ours = {job.folder.path.name for job in self.jobs.values() if job.folder.path.parent == study}
        if ours & set(book.read(study)):
            with book.opened(study) as kept:
                book.write(study, {run: entry for run, entry in kept.items() if run not in ours})


def _is_newer(job: Composed, entry: Entry) -> bool:
    """Whether a run's trial was written by the order of this entry."""
    written = book.written(job.folder.path / TRIAL_FILE)
    return written is not None and written != entry.runs[job.folder.path.name]
