"""Trackers: sinks that get a copy of each run as it goes. Our own files are the truth; a tracker is a convenience."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from scalelab.errors import Refused, unknown
from scalelab.spec import as_plain
from scalelab.trials import Outcome, Trial

WANDB_MODES = ("offline", "online", "shared", "disabled")


class Tracker(Protocol):
    """What a run tells: its spec at `start`, its curve in `record`s, its trial at `finish`."""

    def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None: ...
    def record(self, values: Mapping[str, Any]) -> None: ...
    def finish(self, trial: Trial) -> None: ...


class NoTracker:
    """Keeps nothing."""

    def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
        pass

    def record(self, values: Mapping[str, Any]) -> None:
        pass

    def finish(self, trial: Trial) -> None:
        pass


class WandbTracker:
    """Weights & Biases, imported when a run starts; `mode="offline"` needs no login.

    What W&B cannot take (no network, no disk) is warned of once and ends the copy, never the run.
    """

    def __init__(self, project: str, mode: str = "offline") -> None:
        if mode not in WANDB_MODES:
            raise unknown("tracker.mode", mode, WANDB_MODES)
        self.project, self.mode = project, mode
        self.run: Any = None

    def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
        try:
            import wandb
        except ModuleNotFoundError:
            raise Refused("tracker=wandb, but wandb is not installed: pip install 'scalelab[wandb]'") from None
        with self._surviving():
            self.run = wandb.init(
                project=self.project,
                mode=self.mode,  # type: ignore[arg-type]
                name=name,
                config=dict(spec),
                dir=folder,
                reinit="create_new",  # of the runs that are trained together each has its own
                settings=wandb.Settings(silent=True),
            )

    def record(self, values: Mapping[str, Any]) -> None:
        if self.run is not None:
            with self._surviving():
                self.run.log(dict(values), step=values["step"])

    def finish(self, trial: Trial) -> None:
        if self.run is not None:
            with self._surviving():
                self.run.log({}, commit=True)  # its last record: later it would overwrite the summary
                self.run.summary.update({k: v for k, v in as_plain(trial).items() if k not in ("spec", "provenance")})
                self.run.finish(exit_code=int(trial.outcome is Outcome.FAILED))

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        from wandb.errors import Error

        try:
            yield
        except (Error, OSError) as error:
            warnings.warn(f"W&B gets no copy of this run from here on: {error}", stacklevel=3)
            self.run = None


TRACKERS: dict[str, Callable[..., Tracker]] = {"none": NoTracker, "wandb": WandbTracker}


def tracker(name: str, **options: Any) -> Tracker:
    """The tracker of that name; `Refused` on an unknown name or option."""
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    try:
        return TRACKERS[name](**options)
    except TypeError as error:
        raise Refused(f"tracker {name!r}: {error}") from None
