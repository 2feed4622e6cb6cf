"""What a tracker is: somebody who gets a copy of a run as it goes. Our own files are the truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scalelab.trials import Trial


class Tracker(Protocol):
    """What a run tells: its spec at `start`, its curve in `record`s, its trial at `finish`.

    A run that goes on where another process left it tells its curve from the beginning. `finish(None)` says that it
    was stopped and is to be gone on with.
    """

    @property
    def needs(self) -> Sequence[str]:
        """Modules that are imported before it starts: it is told in a thread, and no two threads may import one."""
        return ()

    def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None: ...
    def record(self, values: Mapping[str, Any]) -> None: ...
    def finish(self, trial: Trial | None) -> None: ...


class NoTracker(Tracker):
    """Keeps nothing."""

    def __init__(self) -> None:
        pass

    def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
        pass

    def record(self, values: Mapping[str, Any]) -> None:
        pass

    def finish(self, trial: Trial | None) -> None:
        pass
