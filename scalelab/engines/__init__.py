"""Engines: where populations are trained when it is not here. They start processes; the run folders say what came.

`engine` is what one does, `book` remembers across launchers what was handed over, and `launching` has a batch of
Hydra's jobs trained by one.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from scalelab.engines.engine import Engine
from scalelab.engines.settings import Settings, settings_of
from scalelab.errors import Refused
from scalelab.named import class_named

ENGINES = {
    "slurm": "scalelab.engines.slurm:SlurmEngine",
    "ray": "scalelab.engines.ray:RayEngine",
}


def engine_of(launcher: Mapping[str, Any]) -> Engine:
    """The engine that a launcher's configuration chooses; its class makes it with `of`, from the settings.

    Args:
        launcher: conf/hydra/launcher/slurm.yaml for one: `engine`, what `Settings` has, and the engine's own.

    Raises:
        Refused: on a setting that is not accepted, and where the engine is not to be had here.
    """
    given = {str(key): value for key, value in launcher.items() if key != "_target_"}
    if "engine" not in given:
        raise Refused(f"hydra.launcher without engine: accepted are {', '.join(sorted(ENGINES))}")
    cls: Any = class_named("hydra.launcher.engine", str(given.pop("engine")), ENGINES)
    everyones = {field.name for field in fields(Settings)}
    settings_of(given)
    engine: Engine = cls.of(**{key: value for key, value in given.items() if key not in everyones or key == "workers"})
    return engine
