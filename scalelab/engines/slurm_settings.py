"""What SLURM can be told: settings → parameters of sbatch, with nothing in them that a shell or sbatch would act on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.values import integer

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:+@-]*")
CONSTRAINT = re.compile(r"[A-Za-z0-9_(\[][A-Za-z0-9_.,:+@&|!*()\[\]-]*")
HOSTS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,\[\]-]*")
MEMORY = re.compile(r"[0-9]+[KMGT]?B?")
COMMAND = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./:=,+@%~ -]*")  # words: nothing that a shell expands or ends at
VALUE = re.compile(r"[A-Za-z0-9_.,:+@%/=&|!*()\[\]-]*")
FOLDER = re.compile(r"[A-Za-z0-9_./:=,+@~ -]+")  # sbatch takes % for a pattern and quotes for its own
KEY = re.compile(r"[a-z][a-z0-9_-]*")
OURS = (
    "array", "chdir", "error", "export", "input", "job-name", "ntasks", "ntasks-per-node", "open-mode", "output",
    "requeue", "no-requeue", "signal", "time", "wrap",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """Settings of conf/hydra/launcher/slurm.yaml, which says what each is."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gpus: int = 0
    cpus: int | None = None
    memory: str | None = None
    minutes: int = 60
    signal_seconds: int = 90
    requeues: int = 1000
    workers: int = 16
    additional: Mapping[str, Any] = field(default_factory=dict)
    setup: Sequence[str] = ()
    python: str | None = None

    def parameters(self, *, name: str, threads: int) -> dict[str, Any]:
        """The parameters of submitit's SlurmExecutor for jobs of this name, with as many threads each."""
        cpus = self.cpus or threads
        named = {key: getattr(self, key) for key in ("partition", "account", "qos", "constraint", "exclude")}
        # JobRequeue=0 is a site's choice for those who do not say; without it nothing could be requeued.
        additional = {"requeue": True, **{key.replace("_", "-"): value for key, value in self.additional.items()}}
        return {
            **{key: value for key, value in named.items() if value is not None},
            **({"gpus_per_node": self.gpus} if self.gpus else {}),
            **({"mem": self.memory} if self.memory else {}),
            "job_name": name,
            "time": self.minutes,
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": cpus,
            "srun_args": [f"--cpus-per-task={cpus}"],  # which srun no longer takes over from sbatch, since 22.05
            "signal_delay_s": self.signal_seconds,
            "array_parallelism": self.workers,
            "additional_parameters": additional,
            **({"setup": list(self.setup)} if self.setup else {}),
        }


def slurm_settings(given: Mapping[str, Any]) -> SlurmSettings:
    """Settings from a configuration.

    Raises:
        Refused: on a key that there is not, and on a value that is not accepted or that a shell would act on.
    """
    known = {each.name: each for each in fields(SlurmSettings)}
    for key in given:
        if key not in known:
            raise unknown("key hydra.launcher", key, known)
    found = {key: value for key, value in given.items() if value is not None}
    for key, pattern in (("partition", NAME), ("account", NAME), ("qos", NAME), ("constraint", CONSTRAINT),
                         ("exclude", HOSTS), ("memory", MEMORY), ("python", COMMAND)):  # fmt: skip
        if key in found:
            found[key] = _text(key, found[key], pattern)
    for key, least in (("gpus", 0), ("cpus", 1), ("minutes", 1), ("signal_seconds", 1), ("requeues", 0),
                       ("workers", 1)):  # fmt: skip
        if key in found:
            found[key] = integer(f"hydra.launcher.{key}", found[key])
            if found[key] < least:
                raise Refused(f"hydra.launcher.{key}={found[key]}: accepted is a whole number ≥ {least}")
    found["additional"] = _additional(found.get("additional", {}))
    found["setup"] = _setup(found.get("setup", ()))
    settings = SlurmSettings(**found)
    if settings.signal_seconds >= 60 * settings.minutes:
        raise Refused(f"hydra.launcher.signal_seconds={settings.signal_seconds} is no warning before the limit of"
                      f" minutes={settings.minutes}: accepted is less than {60 * settings.minutes}")  # fmt: skip
    return settings


def job_name(study: Path, label: str) -> str:
    """The name of an array of jobs, in which nothing but letters, digits and . _ - is left of the study's."""
    return f"scalelab-{re.sub(r'[^A-Za-z0-9._-]', '-', study.name)[:80]}-{label}"


def check_folder(study: Path) -> None:
    """Refuse a folder whose name sbatch would not take as it is."""
    if not FOLDER.fullmatch(str(study)):
        raise Refused(f"study folder {str(study)!r}: accepted with hydra/launcher=slurm are letters, digits, spaces and"
                      " . _ / : = , + @ ~ -, as sbatch reads more into the others; set out or study")  # fmt: skip


def _text(key: str, value: Any, pattern: re.Pattern[str]) -> str:
    if isinstance(value, bool | Mapping | list | tuple) or not pattern.fullmatch(str(value)):
        raise Refused(f"hydra.launcher.{key}={value!r}: accepted is text that a shell does not act on,"
                      f" {pattern.pattern}")  # fmt: skip
    return str(value)


def _additional(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise Refused(f"hydra.launcher.additional={given!r}: accepted are parameters of sbatch, each with its value")
    found: dict[str, Any] = {}
    for key, value in given.items():
        if not KEY.fullmatch(str(key)):
            raise Refused(f"hydra.launcher.additional: {str(key)!r} is no long option of sbatch, without its --")
        name = str(key).replace("_", "-")
        if name in OURS:
            raise Refused(f"hydra.launcher.additional.{key}: the launcher itself needs sbatch's --{name}")
        if isinstance(value, Mapping | list | tuple) or value in (None, False):
            raise Refused(f"hydra.launcher.additional.{key}={value}: accepted is text, a number, or true")
        found[name] = value if value is True else _text(f"additional.{key}", value, VALUE)
    return found


def _setup(given: Any) -> tuple[str, ...]:
    """Lines of a shell's, of which each is one."""
    lines = [given] if isinstance(given, str) else list(given)
    for line in lines:
        if not isinstance(line, str) or re.search(r"[\n\r\0]", line) or line.lstrip().startswith("#SBATCH"):
            raise Refused(f"hydra.launcher.setup={line!r}: accepted are commands, one a line of the list")
    return tuple(lines)
