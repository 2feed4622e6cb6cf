"""What every engine's launcher can be told."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from scalelab.errors import Refused
from scalelab.values import integer, real


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every engine's launcher can be told; the keys are those of conf/hydra/launcher/slurm.yaml, for one.

    `workers` is how many orders are to be worked on at the same time, for which runs are cut into populations of
    `members` at most; `retries` are of runs whose order died.
    """

    workers: int = 16
    members: int | None = None
    retries: int = 2
    poll_seconds: float = 10.0


def settings_of(launcher: Mapping[str, Any]) -> Settings:
    """The settings among those of a launcher's configuration; `Refused` on what is not accepted."""
    given = {field.name: launcher[field.name] for field in fields(Settings) if field.name in launcher}
    found: dict[str, Any] = {}
    for name, least in (("workers", 1), ("members", 1), ("retries", 0)):
        if name in given and not (name == "members" and given[name] is None):
            found[name] = integer(f"hydra.launcher.{name}", given[name])
            if found[name] < least:
                raise Refused(f"hydra.launcher.{name}={found[name]}: accepted is a whole number ≥ {least}")
    if "poll_seconds" in given:
        found["poll_seconds"] = real("hydra.launcher.poll_seconds", given["poll_seconds"])
        if not 0 < found["poll_seconds"] < float("inf"):
            raise Refused(f"hydra.launcher.poll_seconds={given['poll_seconds']}: accepted is a positive number")
    return Settings(**found)
