"""A tracker at arm's length: whatever it takes long for, or dies of, costs the run that it is told of nothing.

It is told in a thread of its own. When a run has ended it is waited for, but not for long.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from scalelab.stopping import Stopped
from scalelab.trackers.tracker import NoTracker, Tracker
from scalelab.trials import RunFolder, Trial

LINGER_SECONDS = 30.0  # for all trackers of the runs of a call together, when these have ended
LEAVE_SECONDS = 5.0  # when they were stopped: whoever stopped them does not wait long either
OURS = ("attempt", "time")  # of a record on disk, which a tracker is not told


class Aside(Tracker):
    """Tells `inner` in a thread, one thing after another, until it fails: of that the user is warned, once."""

    def __init__(self, inner: Tracker) -> None:
        self.inner = inner
        self.ended = False  # whether it knows how the run ended
        self.lost: BaseException | None = None
        self._said = False
        self._told_to = -1  # the last step that was on disk already
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._tell, name=f"tracker {type(inner).__name__}", daemon=True)

    def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
        """Start it, and tell it what is known of the run from before."""
        needs = getattr(self.inner, "needs", ())  # a tracker of somebody else's may do without
        self.lost = survived(lambda: [import_module(name) for name in needs])
        if self.lost is not None:
            return
        self._thread.start()
        self._queue.put(partial(self.inner.start, name, spec, folder))
        before = RunFolder(folder).metrics()
        for record in before:
            self.record({key: value for key, value in record.items() if key not in OURS})
        self._told_to = before[-1]["step"] if before else -1

    def record(self, values: Mapping[str, Any]) -> None:
        """Tell it of a step, in the order of the steps; what a resumed run does again has been told."""
        self._say()
        if values["step"] > self._told_to and self.lost is None:
            self._queue.put(partial(self.inner.record, dict(values)))

    def finish(self, trial: Trial | None) -> None:
        """Tell it how the run ended; nobody waits for it here."""
        self._say()
        self.ended = True
        self._queue.put(partial(self.inner.finish, trial))
        self._queue.put(None)

    def wait(self, seconds: float) -> None:
        """Wait until all is told, for so long."""
        if self._thread.ident is None:  # never started
            self._say()
            return
        if not self.ended:
            self.finish(None)
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive() and self.lost is None:
            self.lost = TimeoutError("it does not answer")
        self._say()

    def _tell(self) -> None:
        while (call := self._queue.get()) is not None:
            self.lost = survived(call)
            if self.lost is not None:
                return

    def _say(self) -> None:
        if self.lost is not None and not self._said:
            self._said = True
            kind = type(self.inner).__name__
            said = " ".join(str(self.lost).split()) or type(self.lost).__name__
            warnings.warn(f"{kind} gets no copy of this run from here on: {said}", stacklevel=3)


def survived(call: Callable[[], object]) -> BaseException | None:
    """What a tracker's call raised, None where it went well.

    A tracker is somebody else's program, which may raise anything at all, and nothing of ours may end by it: this is
    the one place where everything is caught.
    """
    try:
        call()
    except (Exception, SystemExit) as error:
        return error
    return None


def aside(tracker: Tracker) -> Tracker:
    """A tracker at arm's length, where there is one."""
    return tracker if isinstance(tracker, NoTracker | Aside) else Aside(tracker)


@contextmanager
def waited_for(trackers: Iterable[Tracker]) -> Iterator[None]:
    """When the runs have ended, by whatever, their trackers get `LINGER_SECONDS` to end too, all of them together."""
    linger = LINGER_SECONDS
    try:
        yield
    except (Stopped, KeyboardInterrupt):
        linger = LEAVE_SECONDS
        raise
    finally:
        until = time.monotonic() + linger
        there = [each for each in trackers if isinstance(each, Aside)]
        for each in there:
            if not each.ended:
                each.finish(None)
        for each in there:
            each.wait(until - time.monotonic())
