"""Is everything here that a sweep needs? To look changes nothing, and takes a few seconds, most of them torch's.

packages, torches, extras, folders, machine, project → findings → `examine` → show_doctor
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import scalelab
from scalelab.doctor import extras, folders, machine, packages, project, torches
from scalelab.doctor.finding import Finding, State

__all__ = ["Finding", "State", "as_plain", "examine", "is_broken"]


def examine(out: Path) -> tuple[Finding, ...]:
    """Everything; `out` is the folder that runs are to be written to, which need not be there."""
    looking = torches.started()
    try:
        before = packages.python_findings(Path(scalelab.__file__).parent)
        after = [
            *machine.machine(), *folders.folders(out), *project.configuration(), *project.corpora(), *extras.extras(),
        ]  # fmt: skip
        return (*before, *torches.of_torch(torches.finished(looking)), *after)
    finally:
        looking.kill()
        looking.wait()


def is_broken(findings: Sequence[Finding]) -> bool:
    """Whether something that is needed does not work."""
    return any(found.state is State.BROKEN for found in findings)


def as_plain(findings: Sequence[Finding]) -> dict[str, Any]:
    """JSON types."""
    counts = {state.value: sum(found.state is state for found in findings) for state in State}
    rows = [asdict(found) | {"state": found.state.value} for found in findings]
    return {"broken": is_broken(findings), "counts": counts, "findings": rows}
