"""A spec and a place → the command as it is started: every template filled, every file below the run folder."""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from scalelab.command.names import groups_json, names_of
from scalelab.command.templates import Names, Value, filled, text
from scalelab.config import config_dir
from scalelab.errors import Refused
from scalelab.external import Command
from scalelab.spec import RunSpec
from scalelab.trials import METRICS_FILE, SPEC_FILE, TRIAL_FILE

LOG_FILE = "command.log"  # what it prints, of all its launches
GROUPS_FILE = "groups.json"
CHECKPOINT_FOLDER = "checkpoint"
DEFAULT_PATHS = {"jsonl": "log.jsonl", "wandb": ".", "regex": LOG_FILE}
OURS = (TRIAL_FILE, SPEC_FILE, METRICS_FILE, GROUPS_FILE)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a command is run; no part of what it computes."""

    folder: Path
    device: str = "cpu"
    threads: int = 1
    attempt: int = 1


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A command as it is started. `env` is what is put on top of scalelab's own environment; `read` is a file or, of
    W&B, a folder; `groups` is the text of groups.json."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None
    read: Path
    log: Path
    checkpoint: Path
    groups: str


def check(spec: RunSpec, folder: Path) -> None:
    """Refuse what would be refused when it is run, and what the command says that it cannot do (`requires`)."""
    if spec.command is not None:
        rendered(spec, Place(folder=folder))


def shown(spec: RunSpec, place: Place) -> str:
    """The command in one line, as one would type it into a shell; no shell will see it."""
    found = rendered(spec, place)
    variables = [
        f"{name}={shlex.quote(value)}" for name, value in found.env.items() if not name.startswith("SCALELAB_")
    ]
    return " ".join([*variables, shlex.join(found.argv)])


def rendered(spec: RunSpec, place: Place) -> Rendered:
    """The command of a run at a place; `Refused` on a template that cannot be filled, or where what must hold fails."""
    command, folder = _command(spec), place.folder.absolute()
    names = _with_words(command, _at(names_of(spec), place, folder))
    _hold(command, names)
    argv = tuple(filled(word, names, f"trainer.argv[{at}]") for at, word in enumerate(command.argv))
    here = (filled(word, names, f"trainer.machine_argv[{at}]")
            for at, word in enumerate(command.option("machine_argv") or ()))  # fmt: skip
    env = {name: filled(value, names, f"trainer.env.{name}") for name, value in command.env}
    if not argv[0]:
        raise Refused("trainer.argv[0] is empty: accepted is a program")
    return Rendered(
        argv=(*argv, *here),
        env={**_own_environment(command, place, folder), **env},
        cwd=None if command.option("cwd") is None else Path(command.option("cwd")),
        read=_inside(command, names, folder),
        log=folder / LOG_FILE,
        checkpoint=folder / CHECKPOINT_FOLDER,
        groups=groups_json(spec, names),
    )


def _command(spec: RunSpec) -> Command:
    if spec.command is None:
        raise ValueError(f"run {spec.fingerprint} has no command: scalelab trains it")
    return spec.command


def _at(names: Names, place: Place, folder: Path) -> Names:
    where: dict[str, Value] = {
        "folder": str(folder), "checkpoint": str(folder / CHECKPOINT_FOLDER), "groups_json": str(folder / GROUPS_FILE),
        "device": place.device, "threads": place.threads, "attempt": place.attempt, "python": sys.executable,
        "sweeps": str(config_dir() / "sweep"),
    }  # fmt: skip
    return replace(names, values={**names.values, **where})


def _with_words(command: Command, names: Names) -> Names:
    """With the names that follow others, by their values."""
    values = dict(names.values)
    for name, of, texts in command.words:
        said, accepted = text(names.value(of, f"trainer.words.{name}.of")), dict(texts)
        if name in names.values or name in names.finer:
            raise Refused(f"trainer.words.{name}: that name has a value already, choose another")
        if said not in accepted:
            raise Refused(f"{of}={said} with this command: accepted are {', '.join(accepted)} (trainer.words.{name})")
        values[name] = filled(accepted[said], names, f"trainer.words.{name}")
    return replace(names, values=values)


def _hold(command: Command, names: Names) -> None:
    """Refuse what must hold and does not, all of it at once."""
    unmet = []
    for that, accepted, why in command.option("requires") or ():
        found = filled(that, names, "trainer.requires.that")
        wanted = [filled(each, names, "trainer.requires.is") for each in accepted]
        if found not in wanted:
            unmet.append(f"{that} is {found} and with this command it is to be {' or '.join(wanted)}: {why}")
    if unmet:
        raise Refused("; ".join(unmet))


def _inside(command: Command, names: Names, folder: Path) -> Path:
    """What is read; `Refused` outside of the run folder, for two runs would write to it."""
    reading = command.reading
    given = filled(reading.path or DEFAULT_PATHS[reading.kind], names, "trainer.metrics.path")
    path = folder / given
    if ".." in Path(given).parts or not path.resolve().is_relative_to(folder.resolve()):
        raise Refused(f"trainer.metrics.path={given}: accepted is a place below the run's folder, {{folder}}")
    if reading.kind != "wandb" and path == folder:
        raise Refused(f"trainer.metrics.path={given}: accepted is a file below the run's folder")
    if path.parent == folder and path.name in (*OURS, *(() if reading.kind == "regex" else (LOG_FILE,))):
        raise Refused(f"trainer.metrics.path={given}: scalelab writes that file itself, choose another name")
    return path


def _own_environment(command: Command, place: Place, folder: Path) -> dict[str, str]:
    """What every command is told. A worker's GPU is the only one that its command sees."""
    found = {
        "SCALELAB_RUN_FOLDER": str(folder.resolve()),  # by which its processes are found, whatever link led here
        "SCALELAB_ATTEMPT": str(place.attempt),
        "SCALELAB_GROUPS": str(folder / GROUPS_FILE),
        "OMP_NUM_THREADS": str(place.threads),
    }
    if command.reading.kind == "wandb":
        found |= {"WANDB_MODE": "offline", "WANDB_DIR": str(folder)}
    kind, _, index = place.device.partition(":")
    if kind == "cuda" and index:
        visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
        found["CUDA_VISIBLE_DEVICES"] = visible[int(index)] if int(index) < len(visible) else index
    return found
