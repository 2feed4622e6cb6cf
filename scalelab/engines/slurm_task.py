"""What a job of SLURM's does: it trains an order, and is requeued where the scheduler has warned that it will end."""

import signal
import threading
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from scalelab import stopping
from scalelab.workers.serve import Order, trained

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

WARNING = signal.SIGUSR2  # what submitit has SLURM send before the time limit, or sites before a preemption


@dataclass(frozen=True, kw_only=True)
class Training:
    """An order as submitit calls it, once its handlers are in place: in the main thread.

    submitit's own handler of the warning would requeue the job in the middle of a step, with nothing saved. So the
    warning asks training to stop, and submitit is handed it when all is saved. A SIGTERM, of scancel or a preemption,
    also has all saved; SLURM itself knows whether such a job is to be requeued.
    """

    order: Order

    def __call__(self) -> None:
        """Train.

        Raises:
            Stopped: on SIGTERM.
        """
        requeue = signal.getsignal(WARNING)
        warned = threading.Event()

        def note(number: int, frame: FrameType | None) -> None:
            warned.set()
            stopping.ask()

        signal.signal(WARNING, note)
        try:
            with stopping.heeding(signal.SIGTERM):  # from the start: submitit passes over it
                trained(self.order)
        except stopping.Stopped:
            if not warned.is_set() or not callable(requeue):
                raise
            requeue(WARNING, None)  # does not come back
        finally:
            signal.signal(WARNING, requeue)

    def checkpoint(self) -> "DelayedSubmission":
        """What submitit starts after a requeue: the same, which goes on from what the run folders have."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self)
