"""Ray as an engine: orders become detached actors, which Ray starts again when a process or a node dies.

A ticket is an actor's name, LABEL_PLACE. An actor that has done its work ends, and its name with it: the names that
Ray knows are the orders that wait or run.
"""

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from scalelab.engines.ray_settings import RaySettings, place, ray_settings
from scalelab.engines.ray_worker import Worker, packed
from scalelab.errors import Refused
from scalelab.workers.serve import Order

# Read when Ray is imported. What its nodes have to say is in their logs, and how runs ended in the run folders.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
ANSWER_SECONDS = 5.0  # for a cluster's address to take a connection, and for an actor to answer
JOIN_SECONDS = 60.0  # for a cluster to be joined, or started here
START = "`ray start --head` starts a cluster, hydra.launcher.address=null one for this launcher alone"


@dataclass(frozen=True, kw_only=True)
class RayEngine:
    """Actors of Ray's with these settings; an order needs what its device and threads say."""

    settings: RaySettings
    actors: dict[str, Any] = field(default_factory=dict)  # by ticket, those that were seen

    @classmethod
    def of(cls, **given: Any) -> "RayEngine":
        """The engine of a launcher's settings.

        Raises:
            Refused: on a setting that is not accepted, without Ray, and where there is no cluster at the address.
        """
        settings = ray_settings(given)
        if importlib.util.find_spec("ray") is None:
            raise Refused("hydra/launcher=ray needs Ray: pip install 'scalelab[ray]'")
        if settings.address is not None:  # one of our own is started when there is something for it to do
            _join(settings.address)
        return cls(settings=settings)

    def submit(self, orders: Sequence[Order]) -> list[str]:
        """Hand orders over; the ticket of each.

        Raises:
            Refused: where an order is not one for this cluster.
        """
        return self.submit_as(uuid.uuid4().hex[:12], orders)

    def submit_as(self, label: str, orders: Sequence[Order]) -> list[str]:
        """Hand orders over; their tickets are made of the label and their places.

        (Ray makes actors beside what this process does: one that is killed in the milliseconds after has lost some,
        which then are not `alive`.)
        """
        asked = [(f"{label}_{at}", self.settings.options(order), packed(order)) for at, order in enumerate(orders)]
        ray = _join(self.settings.address)
        for ticket, options, pieces in asked:
            self.actors[ticket] = ray.remote(Worker).options(name=ticket, **options).remote(*pieces)
        return [ticket for ticket, _, _ in asked]

    def submitted_as(self, label: str) -> dict[int, str]:
        """The tickets under a label that wait or run, by place."""
        return {int(name.removeprefix(f"{label}_")): name for name in self._names() if name.startswith(f"{label}_")}

    def alive(self, tickets: Collection[str]) -> set[str]:
        """Those that Ray knows: that wait for room, run, or are about to be started again."""
        if not tickets:
            return set()
        alive = self._names().intersection(tickets)
        for ticket in alive - set(self.actors):
            self._look_up(ticket)
        return alive

    def why(self, ticket: str) -> str:
        """How an actor ended, as Ray says; nobody knows who has not seen it alive."""
        ray = _join(self.settings.address)
        if ticket not in self.actors:
            self._look_up(ticket)
        if ticket not in self.actors:
            return f"Ray's actor {ticket} has ended unseen: its cluster's logs say how"
        try:
            ray.get(self.actors[ticket].__ray_ready__.remote(), timeout=ANSWER_SECONDS)
        except ray.exceptions.GetTimeoutError:
            pass
        except ray.exceptions.RayActorError as died:
            said = " ".join(str(died).partition("The actor is dead because ")[2].split()) or " ".join(str(died).split())
            said = said.partition(" Some common causes")[0]
            said = said.partition(" The actor never ran")[0]  # what is in its constructor has not begun, to Ray
            return f"Ray's actor {ticket} ended: {said[-300:]}"
        return f"Ray's actor {ticket} has not ended"

    def cancel(self, tickets: Collection[str]) -> None:
        """End these at once: what they train goes on, if ever, from the last time that it was saved."""
        if not tickets:
            return
        ray = _join(self.settings.address)
        for ticket in self.alive(tickets):
            with contextlib.suppress(KeyError, ValueError, ray.exceptions.RayActorError):  # it has ended meanwhile
                ray.kill(self.actors[ticket], no_restart=True)

    def _names(self) -> set[str]:
        ray = _join(self.settings.address)
        return {
            each["name"]
            for each in ray.util.list_named_actors(all_namespaces=True)
            if each["namespace"] == self.settings.namespace
        }

    def _look_up(self, ticket: str) -> None:
        ray = _join(self.settings.address)
        with contextlib.suppress(ValueError):  # it has ended
            self.actors[ticket] = ray.get_actor(ticket, namespace=self.settings.namespace)


def _join(address: str | None) -> Any:
    """The module of Ray, with this process in the cluster at an address; None: in one of its own.

    Raises:
        Refused: where there is none that answers in time.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return ray
    if address == "auto" and (given := os.environ.get("RAY_ADDRESS")):
        _check_answers(given, "RAY_ADDRESS")
    elif address not in ("auto", None):
        _check_answers(str(address), "hydra.launcher.address")
    failed: list[Exception] = []

    def join() -> None:
        try:
            ray.init(address=address or "local", include_dashboard=None if address else False, log_to_driver=False,
                     logging_level=logging.ERROR)  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            failed.append(error)

    with _sigterm_as_it_is():
        if address is None:
            join()  # not in a thread, with which its processes would end
        else:
            thread = threading.Thread(target=join, daemon=True)  # Ray's own patience has no end
            thread.start()
            thread.join(JOIN_SECONDS)
            if thread.is_alive():
                raise Refused(f"hydra.launcher.address={address}: nothing was joined in {JOIN_SECONDS:g} s; {START}")
    if failed:
        said = " ".join(str(failed[0]).split())[:200]
        raise Refused(f"hydra.launcher.address={'null' if address is None else address}: {said}; {START}")
    return ray


def _check_answers(address: str, name: str) -> None:
    host, port = place(address, name)
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise Refused(f"{name}={address}: no answer there ({error.strerror or error}); {START}") from None


@contextlib.contextmanager
def _sigterm_as_it_is() -> Iterator[None]:
    """Ray's own answer to a SIGTERM is a page of addresses and an abort."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
