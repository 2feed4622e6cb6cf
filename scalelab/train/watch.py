"""Whom a run tells how it goes, and who may end it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from scalelab.spec import RunSpec
from scalelab.trials import Trial


class Observer(Protocol):
    """Somebody who is told how a run goes: a metrics file, a tracker."""

    def record(self, values: Mapping[str, Any]) -> None: ...


class Pruner(Protocol):
    """Somebody who may end a run before its horizon: `rungs` are the steps after which its validation loss is asked."""

    @property
    def rungs(self) -> Sequence[int]: ...
    def stops(self, *, step: int, tokens: int, loss_nats: float) -> str | None:
        """Why the run is to end here, or None."""

    def ended(self, trial: Trial) -> None:
        """The run has ended, in whatever way."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A run that another begins as: what it was, the file of its state, its curve until then."""

    spec: RunSpec
    checkpoint: Path
    records: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What belongs to one run beside its spec.

    `observers` are told its curve (step, tokens, loss_nats, lr, seconds); `ended` its trial, as soon as there is one;
    `checkpoint` is the file that it is saved to and resumed from; where there is none yet it begins with that of
    `begins`, if the two do the same until there; `keep_checkpoint` asks for one at the end. `pruner` may end it.
    """

    observers: Sequence[Observer] = ()
    ended: Callable[[Trial], None] | None = None
    checkpoint: Path | None = None
    begins: Beginning | None = None
    keep_checkpoint: bool = False
    pruner: Pruner | None = None
