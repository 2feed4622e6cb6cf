"""What an actor of Ray's does: it trains an order in its own process, and then it is no more."""

import os
import pickle
import traceback
import zlib
from collections.abc import Sequence

from scalelab import stopping
from scalelab.errors import Refused
from scalelab.trials import TRIAL_FILE
from scalelab.workers.launching import leave_failed
from scalelab.workers.serve import Asked, Order, trained

PIECE = 64 << 10  # bytes
PIECES = 128


def packed(order: Order) -> list[bytes]:
    """An order in pieces that Ray keeps with the actor: larger arguments are kept by the driver, and end with it.

    Raises:
        Refused: on an order that is too large for it.
    """
    whole = zlib.compress(pickle.dumps((os.getcwd(), order)))
    if len(whole) > PIECE * PIECES:
        raise Refused(f"a task of {len(order.jobs)} runs is too much for Ray: set hydra.launcher.members, or"
                      " hydra.launcher.workers higher")  # fmt: skip
    return [whole[start : start + PIECE] for start in range(0, len(whole), PIECE)]


class Worker:
    """The actor, whose constructor is all of its work: that is what Ray calls again after a restart, on whatever node.

    (A method that the constructor calls is, after a restart, sometimes never run.) It is run in the main thread of the
    process, where SIGTERM is heeded.
    """

    def __init__(self, *pieces: bytes) -> None:
        """Train; the actor ends with it. After a stop it is started again, where Ray finds room for it."""
        import ray

        folder, order = pickle.loads(zlib.decompress(b"".join(pieces)))
        try:
            os.chdir(folder)  # what a run reads may be named from there
            trained(order)
        except stopping.Stopped as stopped:
            os._exit(int(str(stopped.code)))  # an end that Ray does not take for a wanted one
        except Exception as error:  # whatever it is: who ordered the work may be gone
            _leave(order.jobs, error)
        ray.actor.exit_actor()


def _leave(jobs: Sequence[Asked], error: Exception) -> None:
    """Say in the folders why their runs have failed, where `run_jobs` has not said so: nobody is there to be told."""
    reason = "".join(traceback.format_exception_only(error)).strip()
    for job in jobs:
        try:
            said = (job.folder.path / TRIAL_FILE).exists() and job.folder.read().reason == reason
        except Refused:
            said = False
        if not said:
            leave_failed(job, reason)
