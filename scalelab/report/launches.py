"""What was asked: how each study of a folder was launched, and the question that its file states."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from scalelab.errors import Refused
from scalelab.secrets import scrubbed

FILE = "multirun.yaml"  # Hydra's, in the folder of a sweep
MOST_LINES = 40  # of a study file's first comment


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A sweep as it was launched last: its file by name with the comment it begins with, overrides, what was swept."""

    folder: Path
    study_file: str | None
    comment: str
    overrides: tuple[str, ...]
    swept: Mapping[str, str]
    launched: datetime


def launches(folder: Path) -> tuple[Launch, ...]:
    """Every sweep at a folder or one below it.

    Raises:
        Refused: where a multirun.yaml is corrupt.
    """
    files = [file for file in (folder / FILE, *sorted(folder.glob(f"*/{FILE}"))) if file.is_file()]
    return tuple(_launch(file) for file in files)


def _launch(file: Path) -> Launch:
    try:
        hydra = yaml.safe_load(file.read_text())["hydra"]
        choices, runtime = hydra["runtime"]["choices"], hydra["runtime"]
        name = choices.get("sweep")
        return Launch(
            folder=file.parent,
            study_file=None if name is None else str(name),
            comment="" if name is None else _comment(str(name), runtime["config_sources"]),
            overrides=tuple(scrubbed(str(each)) for each in hydra["overrides"]["task"]),
            swept={
                str(k): scrubbed(str(v)).replace(",", ", ") for k, v in (hydra["sweeper"].get("params") or {}).items()
            },
            launched=datetime.fromtimestamp(file.stat().st_mtime, UTC),
        )
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise Refused(f"{file} is damaged ({said}): move it away, launching the study again writes it") from None


def _comment(name: str, sources: list[Mapping[str, Any]]) -> str:
    """The comment at the top of a study's file, as it is now; empty where the file is not to be found."""
    for source in sources:
        place = Path(str(source["path"]).removeprefix("file://")) / "sweep"
        file = place / f"{name}.yaml"
        if source["schema"] != "file" or ".." in Path(name).parts or not file.is_file():
            continue
        lines = []
        for line in file.read_text(errors="replace").splitlines()[:MOST_LINES]:
            if not line.startswith("#"):
                break
            if not line.startswith("# @"):
                lines.append(line.removeprefix("#").strip())
        return " ".join(lines).strip()
    return ""
