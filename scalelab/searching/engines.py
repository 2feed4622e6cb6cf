"""Where the runs of a search go: to the engine of its launcher, or to a worker of this process."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals

from scalelab.composing import Multirun, as_mapping, hydra_ready
from scalelab.engines import engine_of
from scalelab.engines.engine import Engine, Recalls
from scalelab.engines.settings import Settings, settings_of
from scalelab.search.works import Here, Label, Ordered, Works
from scalelab.workers import launching
from scalelab.workers.composed import Composer
from scalelab.workers.launching import asked as as_asked
from scalelab.workers.launching import launched, refuse_what_needs_hydras_own_job
from scalelab.workers.serve import Order


@dataclass(kw_only=True)
class Elsewhere:
    """`Works` of an engine: the runs of a label are one order."""

    engine: Engine
    settings: Settings
    composer: Composer
    composed: int = 0

    def submit(self, orders: Mapping[Label, Sequence[Ordered]]) -> Mapping[Label, str]:
        found = {}
        for label, runs in orders.items():
            order = self._order(runs)
            if isinstance(self.engine, Recalls):
                (found[label],) = self.engine.submit_as(label, [order])
            else:
                (found[label],) = self.engine.submit([order])
        return found

    def recall(self, label: Label) -> str | None:
        if not isinstance(self.engine, Recalls):
            return ""
        found = self.engine.submitted_as(label)
        return None if found is None else found.get(0, "")

    def alive(self, tickets: Collection[str]) -> set[str]:
        return self.engine.alive(tickets)

    def why(self, ticket: str) -> str:
        return self.engine.why(ticket)

    def cancel(self, tickets: Collection[str]) -> None:
        self.engine.cancel(tickets)

    def _order(self, runs: Sequence[Ordered]) -> Order:
        jobs = []
        for run in runs:
            jobs.append(self.composer.job(run.overrides, self.composed))
            self.composed += 1
        first = jobs[0]
        return Order(
            jobs=[as_asked(job) for job in jobs], device=first.device, threads=first.threads,
            members=self.settings.members, compiled=first.compiled, parallel=first.parallel,
        )  # fmt: skip


@contextmanager
def works_of(asked: Multirun) -> Iterator[tuple[Works, float]]:
    """Where the runs of a search are trained, and the seconds between two looks at them.

    Raises:
        Refused: on a launcher that is not accepted, or whose engine is not to be had here.
    """
    with hydra_ready():
        setup_globals()
        loader = GlobalHydra.instance().config_loader()
        launcher = as_mapping(asked.common.hydra.launcher)
        if asked.is_elsewhere:
            refuse_what_needs_hydras_own_job(asked.common, launcher=str(launcher["engine"]))
            settings = settings_of(launcher)
            composer = Composer(loader=loader, config=asked.common, elsewhere=True)
            yield Elsewhere(engine=engine_of(launcher), settings=settings, composer=composer), settings.poll_seconds
            return
        numbers = iter(range(2**62))

        def launch(jobs: Sequence[Sequence[str]]) -> None:
            each = launching.Settings(workers=1)
            first = next(numbers)
            launched(jobs, each, loader=loader, config=asked.common, first=first)

        yield Here(launch), 1.0
