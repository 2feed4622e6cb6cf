"""Laws and recipes in W&B: files that belong to the runs they were made of, as an artifact of the runs' group."""

import os
import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from scalelab.errors import Refused
from scalelab.trackers.arms_length import survived
from scalelab.trackers.wandb_run import MODES, opened, require_wandb

PROJECT = "scalelab"  # of conf/tracker/wandb.yaml
COMMAND = "command"  # of a run's config, in place of what is trained: such a run is no trial


def accepted_place(told: str | None) -> tuple[str | None, str] | None:
    """`wandb`, `wandb:PROJECT` or `wandb:ENTITY/PROJECT` as entity and project; None as it is.

    Raises:
        Refused: on anything else, and without wandb.

    >>> accepted_place("wandb:team/laws"), accepted_place("wandb"), accepted_place(None)
    (('team', 'laws'), (None, 'scalelab'), None)
    """
    if told is None:
        return None
    found = re.fullmatch(r"wandb(?::(?:([\w.-]+)/)?([\w. -]+))?", told)
    if found is None:
        raise Refused(f"--tracker {told!r}: accepted are wandb, wandb:PROJECT and wandb:ENTITY/PROJECT")
    require_wandb(f"--tracker {told}")
    mode()
    return found[1], found[2] or PROJECT


def mode() -> str:
    """W&B's mode, from WANDB_MODE; offline if that says nothing, as for runs."""
    found = os.environ.get("WANDB_MODE", "offline")
    if found not in MODES:
        raise Refused(f"WANDB_MODE={found}: accepted are {', '.join(MODES)}")
    return found


def keep(
    place: tuple[str | None, str], kind: str, files: Iterable[Path], *, sources: Sequence[str], folder: Path
) -> str:
    """Log files as an artifact of this kind ("laws", "recipe"); how it went, in a sentence: it may fail.

    Args:
        place: entity and project, see `accepted_place`.
        kind: the artifact's type, and what its name begins with.
        files: what it holds.
        sources: where the runs behind them came from: those of one study name its group.
        folder: where W&B keeps its own files.
    """
    kept = [file for file in files if file.is_file()]
    error = survived(lambda: _logged(place, kind, kept, sources, folder))
    if error is not None:
        return f"not kept in W&B: {' '.join(str(error).split()) or type(error).__name__}"
    return f"kept in W&B: {kind} of {len(kept)} files, project {place[1]} ({mode()})"


def _logged(
    place: tuple[str | None, str], kind: str, files: Sequence[Path], sources: Sequence[str], folder: Path
) -> None:
    import wandb

    entity, project = place
    group = group_of(sources)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{kind}-{group}" if group else kind)[:128]
    run = opened(
        id=uuid.uuid4().hex[:12], name=f"{kind} {group or ''}".strip(), dir=folder, project=project, entity=entity,
        mode=mode(), group=group, job_type=kind, tags=[kind], config={COMMAND: kind, "sources": list(sources)},
    )  # fmt: skip
    artifact = wandb.Artifact(name, type=kind)
    for file in files:
        artifact.add_file(str(file), policy="immutable")
    run.log_artifact(artifact)
    run.finish()


def group_of(sources: Sequence[str]) -> str | None:
    """The study that these sources are the runs of: the name of their folder, None where they are several."""
    names = {Path(source).resolve().name for source in sources if "://" not in source and Path(source).is_dir()}
    return names.pop() if len(names) == 1 and len(sources) == 1 else None
