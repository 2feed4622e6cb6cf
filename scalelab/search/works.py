"""Where the runs of a search are trained, as the search sees it: elsewhere by an engine, or here before it goes on."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from scalelab.plan import PlannedRun
from scalelab.trials import TRIAL_FILE, Outcome, Trial


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """A run to be there; `pruning` is the trial on whose behalf it may be stopped, None where nothing may stop it."""

    run: PlannedRun
    pruning: int | None = None

    @property
    def name(self) -> str:
        """Of its run folder."""
        return self.run.spec.fingerprint

    @property
    def overrides(self) -> list[str]:
        return [*self.run.task_overrides, *([] if self.pruning is None else [f"pruning={self.pruning}"])]

    @property
    def came(self) -> Trial | None:
        """What came of it, looked up on disk; None where it has not ended, or has failed and may be run again."""
        folder = self.run.folder
        if (final := folder.final(self.run.spec)) is not None or self.pruning is None:
            return final
        there = folder.read() if (folder.path / TRIAL_FILE).exists() else None
        return there if there is not None and there.outcome is Outcome.PRUNED else None


Label = str  # letters and digits, of what is handed over together
Launch = Callable[[list[list[str]]], object]


class Works(Protocol):
    """Takes runs. What becomes of them stands in their folders."""

    def submit(self, orders: Mapping[Label, Sequence[Ordered]]) -> Mapping[Label, str]:
        """Hand runs over; a ticket a label, by which any process finds them.

        Args:
            orders: of each label the runs that differ in nothing but the seed.

        Raises:
            Refused: where they are not taken.
        """

    def recall(self, label: Label) -> str | None:
        """The ticket of what was handed over under a label.

        Returns:
            "" where nothing was, None where nobody can say just now.
        """

    def alive(self, tickets: Collection[str]) -> set[str]:
        """Those that wait or run, as far as is known."""

    def why(self, ticket: str) -> str:
        """What is known of how it ended, in one line."""

    def cancel(self, tickets: Collection[str]) -> None:
        """End these."""


HERE = "here"


@dataclass(frozen=True)
class Here:
    """A launcher that returns when its jobs have ended: nothing of it is alive afterwards."""

    launch: Launch

    def submit(self, orders: Mapping[Label, Sequence[Ordered]]) -> Mapping[Label, str]:
        self.launch([order.overrides for each in orders.values() for order in each])
        return dict.fromkeys(orders, HERE)

    def recall(self, label: Label) -> str | None:
        return ""

    def alive(self, tickets: Collection[str]) -> set[str]:
        return set()

    def why(self, ticket: str) -> str:
        return "it left no trial: see the launcher's log"

    def cancel(self, tickets: Collection[str]) -> None: ...
