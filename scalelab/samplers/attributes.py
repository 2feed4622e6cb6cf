"""What a sampler keeps with a trial, as Optuna's own do: system attributes, so that no process remembers anything."""

import json
from collections.abc import Mapping
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

PHASE = "scalelab:phase"  # how a trial was chosen
WHY = "scalelab:why"  # and the reason, a line
SUGGESTED = "scalelab:suggested"  # what a trial will be given, before it has asked for all of it
LONGEST = 2000  # characters of an attribute: Optuna's database storage takes 2,046


def mark(study: Study, trial: FrozenTrial, phase: str, why: str) -> None:
    """Say how a trial was chosen, and why so."""
    study._storage.set_trial_system_attr(trial._trial_id, PHASE, phase)
    study._storage.set_trial_system_attr(trial._trial_id, WHY, why)


def announce(study: Study, trial: FrozenTrial, params: Mapping[str, Any], of: Mapping[str, BaseDistribution]) -> None:
    """Let other workers know what `trial` will be given."""
    write(study, trial, SUGGESTED, {name: of[name].to_internal_repr(value) for name, value in params.items()})


def suggested(trial: FrozenTrial, of: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """What `announce` said of the parameters in `of`."""
    internal = read(trial, SUGGESTED) or {}
    return {name: its.to_external_repr(internal[name]) for name, its in of.items() if name in internal}


def write(study: Study, trial: FrozenTrial, key: str, value: object) -> None:
    """Keep a JSON object with the trial, in as many attributes as the storage's limit asks for."""
    text = json.dumps(value)
    for part, start in enumerate(range(0, len(text), LONGEST)):
        study._storage.set_trial_system_attr(trial._trial_id, f"{key}:{part}", text[start : start + LONGEST])


def read(trial: FrozenTrial, key: str) -> Any:
    """What `write` kept, or None: also while another worker is in the middle of writing it."""
    parts: list[str] = []
    while (part := trial.system_attrs.get(f"{key}:{len(parts)}")) is not None:
        parts.append(part)
    try:
        return json.loads("".join(parts)) if parts else None
    except json.JSONDecodeError:
        return None
