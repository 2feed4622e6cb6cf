"""What Ray can be told: settings → what an actor asks of the cluster."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.values import integer, real
from scalelab.workers.environment import WORKER_ENVIRONMENT
from scalelab.workers.serve import Order

ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory")


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Settings of conf/hydra/launcher/ray.yaml, which says what each is."""

    address: str | None = "auto"
    namespace: str = "scalelab"
    cpus: float | None = None
    gpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    restarts: int = 3
    workers: int = 16

    def options(self, order: Order) -> dict[str, Any]:
        """The options of the actor that trains an order.

        Raises:
            Refused: where it cannot be trained with these settings.
        """
        if order.device not in ("cpu", "cuda"):
            raise Refused(f"device={order.device} with hydra/launcher=ray: accepted are cpu and cuda, of which a task"
                          " sees its own")  # fmt: skip
        threads, most = order.threads * order.parallel.processes, order.parallel.processes * (order.device == "cuda")
        if self.cpus is not None and self.cpus < threads:
            raise Refused(f"threads={order.threads} with hydra.launcher.cpus={self.cpus:g}: accepted are {threads} cpus"
                          " or more, or null")  # fmt: skip
        gpus = most if self.gpus is None else self.gpus
        if bool(gpus) != bool(most) or gpus > most or (most > 1 and gpus != most):
            raise Refused(f"device={order.device} with hydra.launcher.gpus={gpus:g}: a task needs {most}, accepted is"
                          f" {'a part of it, or ' if most == 1 else ''}null")  # fmt: skip
        return {
            "lifetime": "detached",
            "namespace": self.namespace,
            "max_restarts": self.restarts,
            "num_cpus": self.cpus or threads,
            "num_gpus": gpus,
            "resources": dict(self.resources),
            "runtime_env": {"env_vars": {**WORKER_ENVIRONMENT, **self.environment}},
        }


def ray_settings(given: Mapping[str, Any]) -> RaySettings:
    """Settings from a configuration.

    Raises:
        Refused: on a key that there is not, and on a value that is not accepted.
    """
    known = [each.name for each in fields(RaySettings)]
    for key in given:
        if key not in known:
            raise unknown("key hydra.launcher", key, known)
    found = dict(given)
    for key, least in (("restarts", 0), ("workers", 1)):
        if key in found:
            found[key] = integer(f"hydra.launcher.{key}", found[key])
            if found[key] < least:
                raise Refused(f"hydra.launcher.{key}={found[key]}: accepted is a whole number ≥ {least}")
    for key in ("cpus", "gpus"):
        if found.get(key) is not None:
            found[key] = _amount(key, found[key], least=0)
    if "address" in found and found["address"] not in (None, "auto"):
        place(str(found["address"]), "hydra.launcher.address")
    if "namespace" in found and not NAME.fullmatch(str(found["namespace"])):
        raise Refused(f"hydra.launcher.namespace={found['namespace']!r}: accepted are letters, digits and _ . : -")
    for key in ("resources", "environment"):
        if not isinstance(found.get(key, {}), Mapping):
            raise Refused(f"hydra.launcher.{key}={found[key]!r}: accepted are names, each with its value")
    found["resources"] = {str(name): _resource(str(name), value) for name, value in found.get("resources", {}).items()}
    found["environment"] = {
        str(name): _variable(str(name), value) for name, value in found.get("environment", {}).items()
    }
    return RaySettings(**found)


def place(address: str, name: str) -> tuple[str, int]:
    """The host and port of a cluster's address; `Refused` says which setting gave it."""
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise Refused(f"{name}={address}: accepted are auto, HOST:PORT (of `ray start --head`), and null; not Ray's"
                      " client, ray://")  # fmt: skip
    return found["host"], int(found["port"])


def _amount(key: str, value: Any, *, least: float) -> float:
    amount = real(f"hydra.launcher.{key}", value)
    if not least <= amount < float("inf") or (amount > 1 and amount != int(amount)):
        raise Refused(f"hydra.launcher.{key}={value}: accepted is a whole number, or a part of one")
    return amount


def _resource(name: str, value: Any) -> float:
    if name in RAYS_OWN:
        raise Refused(f"hydra.launcher.resources.{name}: accepted are a cluster's own names; use cpus and gpus")
    return _amount(f"resources.{name}", value, least=1e-4)


def _variable(name: str, value: Any) -> str:
    if not VARIABLE.fullmatch(name) or isinstance(value, Mapping | list | tuple):
        raise Refused(f"hydra.launcher.environment.{name}={value}: accepted is a variable's name with text, a number,"
                      " or null")  # fmt: skip
    if value is None and name not in os.environ:
        raise Refused(f"hydra.launcher.environment.{name}=null hands on what it is here, and it is not set here")
    return os.environ[name] if value is None else str(value)
