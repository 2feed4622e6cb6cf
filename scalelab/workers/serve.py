"""What a worker does: it takes orders, trains, and answers, until whoever started it is gone."""

import os
import pickle
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from scalelab import stopping
from scalelab.jobs import run_jobs
from scalelab.parallel import USUAL, Parallel
from scalelab.spec import RunSpec
from scalelab.trials import RunFolder
from scalelab.workers.job import job_of


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A run that is ordered; `files` are written to its folder first, text by path."""

    spec: RunSpec
    folder: RunFolder
    tracker: Mapping[str, Any]
    pruning: int | None
    files: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Order:
    """Runs of one program to train, `members` at a time (None: what the GPU's memory holds), halved so often."""

    jobs: Sequence[Asked]
    device: str
    threads: int
    members: int | None
    compiled: bool = False
    halvings: int = 0
    parallel: Parallel = USUAL


GRACE_SECONDS = 20.0  # for saving what is in training when whoever ordered it is gone

Answer = list[float | None] | Exception  # the losses of an order, or what was raised


def serve(orders: Connection) -> None:
    """Answer orders until the other end is closed. A worker never outlives the process that it works for."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            order = orders.recv()
        except EOFError:
            return
        orders.send(_answer(order))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])  # of the operating system: also after kill -9
    stopping.ask()
    time.sleep(GRACE_SECONDS)  # a worker that was training saves and ends before
    os._exit(1)


def _answer(order: Order) -> Answer:
    try:
        return trained(order)
    except Exception as error:  # for whoever gave the order, as it would be without a worker in between
        error.add_note("".join(traceback.format_exception(error)).rstrip())
        try:
            pickle.loads(pickle.dumps(error))
        except (TypeError, AttributeError, pickle.PickleError):  # what cannot travel goes by its text
            return RuntimeError("".join(traceback.format_exception(error)).rstrip())
        return error


def trained(order: Order) -> list[float | None]:
    """The losses of an order's runs, None where there is none."""
    for job in order.jobs:
        for path, text in job.files.items():
            file = job.folder.path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    members = order.members
    if members is None:
        from scalelab.train import usual_size

        members = usual_size(order.jobs[0].spec, order.device)
    jobs = [job_of(job.spec, job.folder, sink=job.tracker, pruning=job.pruning) for job in order.jobs]
    trials = run_jobs(
        jobs, device=order.device, threads=order.threads, members=max(1, members >> order.halvings),
        compiled=order.compiled, parallel=order.parallel,
    )  # fmt: skip
    return [None if trial is None else trial.loss_nats for trial in trials]
