"""What an engine is: something that starts orders elsewhere, and says which of them it still knows of."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from scalelab.workers.serve import Order


class Engine(Protocol):
    """Starts orders as processes of their own that outlive this one; a ticket each, by which any process finds them.

    What becomes of their runs stands in the run folders, which the engine does not look at. An order may be started
    again by the engine itself (a requeue); its runs go on from their checkpoints.
    """

    def submit(self, orders: Sequence[Order]) -> list[str]:
        """Hand orders over; the ticket of each.

        Raises:
            Refused: where the engine does not take them, with what it said.
        """

    def alive(self, tickets: Collection[str]) -> set[str]:
        """Those that wait, run, or are about to be requeued; all of them where the engine cannot be asked just now."""

    def why(self, ticket: str) -> str:
        """What is known of how an order ended, in one line."""

    def cancel(self, tickets: Collection[str]) -> None:
        """End these; what they have saved is kept."""


@runtime_checkable
class Recalls(Protocol):
    """An engine that finds again what was handed over by a process that was killed before it noted the tickets."""

    def submit_as(self, label: str, orders: Sequence[Order]) -> list[str]:
        """`Engine.submit` under a label, letters and digits, that nothing else was handed over under."""

    def submitted_as(self, label: str) -> Mapping[int, str] | None:
        """The tickets of what was handed over under a label, by place, empty where nothing came of it.

        None where the engine cannot be asked just now.
        """
