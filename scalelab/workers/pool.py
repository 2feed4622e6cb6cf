"""The pool: a worker a core or a GPU, started when it's first needed and warm from then on.

Processes and pipes of the standard library. A ProcessPoolExecutor ends all its workers when one of them dies; here
the others train on, and each is bound to its device.
"""

import contextlib
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import cast

from scalelab import stopping
from scalelab.workers.environment import worker_environment
from scalelab.workers.serve import GRACE_SECONDS, Answer, Order, serve
from scalelab.workers.tasks import Task

# A fork of a process that has imported torch starts in no time. Only Linux's system libraries are made for that.
CONTEXT = multiprocessing.get_context("forkserver") if sys.platform == "linux" else multiprocessing.get_context("spawn")

POLL_SECONDS = 0.5  # from one look at whether this process was asked to stop to the next


@dataclass(frozen=True)
class Died:
    """What became of a worker that did not answer."""

    reason: str


@dataclass(frozen=True)
class Worker:
    """A process that takes orders."""

    process: multiprocessing.process.BaseProcess
    connection: Connection

    def answer(self) -> Answer | Died:
        """Its answer, waited for; `Died` where none will come."""
        try:
            return cast(Answer, self.connection.recv())
        except (EOFError, ConnectionResetError):
            self.end()
            return Died(_how(self.process.exitcode))

    def end(self) -> None:
        """End it at once, in the middle of what it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def started() -> Worker:
    """A new worker. Being a daemon it ends with this program; killed, too (`serve`)."""
    ours, theirs = CONTEXT.Pipe()
    with worker_environment():
        process = CONTEXT.Process(target=serve, args=(theirs,), daemon=True, name="scalelab-worker")
        process.start()
    theirs.close()
    return Worker(process, ours)


def warm() -> None:
    """Begin, beside what this process does, to import what workers need."""
    if CONTEXT.get_start_method() == "forkserver":
        CONTEXT.set_forkserver_preload(["scalelab.workers.warm"])
        with worker_environment():
            forkserver.ensure_running()


@dataclass(kw_only=True)
class Pool:
    """Workers by place: a device, and which of its workers."""

    workers: dict[tuple[str, int], Worker] = field(default_factory=dict)

    def run(
        self,
        tasks: Sequence[Task],
        devices: Sequence[str],
        *,
        order: Callable[[Task, str], Order],
        done: Callable[[Task, Answer | Died], Sequence[Task]],
    ) -> None:
        """Have tasks done, in their order.

        Args:
            tasks: what is to be done.
            devices: one a worker.
            order: a task as the order to a worker of a device.
            done: takes the answer to a task, and returns what is to be done in addition.
        """
        warm()
        waiting, free = deque(tasks), list(reversed(list(enumerate(devices))))
        busy: dict[Connection, tuple[Task, int, str]] = {}
        try:
            while waiting or busy:
                while waiting and free:
                    place, device = free.pop()
                    worker = self.workers.get((device, place)) or started()
                    self.workers[device, place] = worker
                    task = waiting.popleft()
                    busy[worker.connection] = task, place, device
                    self._give(worker, order(task, device))
                if stopping.asked():
                    self.stop()
                    raise stopping.Stopped
                for ready in wait(list(busy), POLL_SECONDS):
                    task, place, device = busy.pop(cast(Connection, ready))
                    answer = self.workers[device, place].answer()
                    if isinstance(answer, Died):
                        del self.workers[device, place]
                    elif isinstance(answer, Exception) and device != "cpu":
                        self.workers.pop((device, place)).end()  # an error of a GPU stays with its process
                    free.append((place, device))
                    waiting.extend(done(task, answer))
        except BaseException:  # Ctrl-C among others: nobody trains on for nobody
            self.end()
            raise

    def _give(self, worker: Worker, order: Order) -> None:
        # If it has died since its last answer, `answer` will find that.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(order)

    def stop(self) -> None:
        """Ask all workers to stop: those that train save what they train, and have some time for it."""
        for worker in self.workers.values():
            worker.process.terminate()
        until = time.monotonic() + GRACE_SECONDS
        for worker in self.workers.values():
            worker.process.join(max(0.0, until - time.monotonic()))
        self.end()

    def end(self) -> None:
        """End all workers at once."""
        for worker in self.workers.values():
            worker.end()
        self.workers.clear()


POOL = Pool()  # of this process: warm from one batch of a search to the next


def devices_for(device: str, *, threads: int, workers: int | None, gpus: Callable[[], int]) -> list[str]:
    """The device of each worker, for jobs that ask for `device`: a core of the CPU each, a GPU each.

    Args:
        device: cpu, cuda, cuda:1, mps.
        threads: of each worker.
        workers: how many; None: one a core, or a GPU.
        gpus: how many GPUs there are.
    """
    if device == "cpu":
        import joblib  # heeds the affinity and the container's quota, too

        return [device] * (workers or max(1, joblib.cpu_count() // threads))
    if device != "cuda":
        return [device] * (workers or 1)
    return [f"cuda:{place % gpus()}" for place in range(workers or gpus())]


def _how(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"its worker ended with status {exitcode}"
    name = signal.Signals(-exitcode).name
    advice = "; was the memory full? try a smaller hydra.launcher.members or workers" if name == "SIGKILL" else ""
    return f"its worker was killed by {name}{advice}"
