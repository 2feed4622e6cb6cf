"""Being asked to stop: by SIGTERM, by a scheduler's warning, by the end of whoever ordered the work.

A signal may come in the middle of a step, when nothing that could be saved is whole. So it is only noted here; whoever
trains looks between two steps, saves, and leaves by `Stopped`.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ASKED = threading.Event()


class Stopped(SystemExit):
    """Training has stopped because it was asked to; all that was begun is saved and can be gone on with.

    Uncaught it ends the process with 143, as a SIGTERM does.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def ask() -> None:
    """Have training in this process stop after the step that it is in."""
    _ASKED.set()


def asked() -> bool:
    """Whether it is to stop."""
    return _ASKED.is_set()


@contextmanager
def heeding(*signals: signal.Signals) -> Iterator[None]:
    """These signals ask to stop, for as long as this lasts (in the main thread alone, as Python has them).

    Raises:
        Stopped: at the end, where what was being done came to its end all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        signals = ()
    before = {number: signal.signal(number, lambda *_: ask()) for number in signals}
    try:
        yield
        if asked():
            raise Stopped
    finally:
        _ASKED.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
