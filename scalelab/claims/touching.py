"""What this process holds, touched by a thread as long as it lives."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scalelab.claims.holder import LEASE_SECONDS

TOUCHES_A_LEASE = 8


@dataclass
class Touching:
    """Files of claims that are to be touched; `lock` is held during each touch, and by whoever ends them."""

    files: set[Path] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None

    def begin(self, file: Path) -> None:
        """Touch that file from now on."""
        with self.lock:
            self.files.add(file)
            if self.thread is None:
                self.thread = threading.Thread(target=self._touch, daemon=True, name="scalelab-claims")
                self.thread.start()

    def end(self, file: Path, then: Callable[[], None]) -> None:
        """Touch it no more, and do that before anybody else touches anything."""
        with self.lock:
            self.files.discard(file)
            then()

    def forked(self) -> None:
        """A child holds nothing of its parent's, and has none of its threads."""
        self.files, self.lock, self.thread = set(), threading.Lock(), None

    def _touch(self) -> None:
        while True:
            time.sleep(LEASE_SECONDS / TOUCHES_A_LEASE)
            for file in list(self.files):
                with self.lock:
                    # The file system may be away for a moment: the next touch may do. Nothing is made.
                    if file in self.files:
                        with contextlib.suppress(OSError):
                            os.utime(file)


TOUCHING = Touching()
os.register_at_fork(after_in_child=TOUCHING.forked)
