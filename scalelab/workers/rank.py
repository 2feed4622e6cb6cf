"""`python -m scalelab.workers.rank FILE`: one of the processes that torchrun starts for a run (`train.spread`)."""

import contextlib
import os
import pickle
import sys
import threading
import time
from pathlib import Path

from scalelab import stopping
from scalelab.claims import Holder
from scalelab.errors import Refused
from scalelab.jobs import run_jobs
from scalelab.train import spread
from scalelab.train.spread.torchrun import Ordered

WATCH_SECONDS = 1.0


def main(file: Path) -> int:
    """Train what the file says, or take part in it; the exit status.

    0 where there is nothing to be done again: after a stop, too, that torchrun shall not take for a failure.
    """
    with contextlib.suppress(stopping.Stopped):
        if os.environ["RANK"] != "0":
            with spread.left():
                spread.take_part()
            return 0
        try:
            _lead(file)
        except Refused as error:
            sys.stderr.write(f"scalelab: {error}\n")
            return 2
    return 0


def _lead(file: Path) -> None:
    asked: Ordered = pickle.loads(file.read_bytes())  # of the process that has started us
    threading.Thread(target=_stop_with, args=(asked.launcher,), daemon=True).start()
    run_jobs([asked.job], device=asked.device, threads=asked.threads, parallel=asked.parallel)
    spread.dismiss()


def _stop_with(launcher: Holder) -> None:
    """Nobody trains on for a process that is gone."""
    while launcher.alive is not False:
        time.sleep(WATCH_SECONDS)
    stopping.ask()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
