"""What others published, held against these runs: the excess loss of their settings, the error of their losses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.errors import Refused, unknown
from scalelab.laws.columns import PARAMS
from scalelab.laws.forms import PUBLISHED
from scalelab.laws.joint.result import Joint
from scalelab.laws.law import Published
from scalelab.laws.observations import Observations
from scalelab.laws.validate.settings import VAGUE, excess_at, published_choice

USUAL = ("step_law", "deepseek")  # compared where nothing else is asked for and the columns allow it


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A published law on these runs: for settings the mean excess loss in per cent over the scales (`worst`: of one),
    for losses the mean and worst absolute error in per cent. `note` says what the source counted otherwise."""

    name: str
    output: str
    scales: int
    mean_percent: float
    worst_percent: float
    note: str


def keys_of(names: Iterable[str]) -> list[str]:
    """Keys of `PUBLISHED` for names as people write them: "step-law", "deepseek", "chinchilla/epoch".

    Raises:
        Refused: on a name that nobody published.
    """
    found: list[str] = []
    for name in names:
        plain = name.strip().lower().replace("-", "_")
        matches = [key for key in PUBLISHED if plain in (key, key.split("/")[1], key.split("/")[0])]
        if not matches:
            raise unknown("published law", name, [*PUBLISHED, *(key.split("/")[1] for key in PUBLISHED)])
        found += [key for key in matches if key not in found]
    return found


def compare_settings(joint: Joint, keys: Sequence[str], column: str | None) -> list[Compared]:
    """Published laws of learning rate and batch at every scale that knows its own optimum."""
    judges = [cell for cell in joint.cells if cell.settings and all(sd < VAGUE for _, sd in cell.settings.values())]
    found = []
    for key in keys:
        entry = PUBLISHED[key]
        if entry.law.output not in joint.coordinates or not judges:
            continue
        beside = {PUBLISHED[k].law.output: PUBLISHED[k] for k in keys if k.split("/")[1] == entry.name}
        batch = beside.get("batch_tokens")
        if entry.law.output == "batch_tokens" and "lr" in beside:
            continue  # scored together with the learning rate
        try:
            chosen = [published_choice(entry, batch, cell.scale) for cell in judges]
        except Refused:
            continue
        excess = [100 * excess_at(joint, cell, choice) for cell, choice in zip(judges, chosen, strict=True)]
        found.append(
            Compared(
                name=entry.name, output=" and ".join(q for q in joint.coordinates if q in chosen[0]),
                scales=len(judges), mean_percent=float(np.mean(excess)), worst_percent=float(np.max(excess)),
                note=_convention(entry, column),
            )
        )  # fmt: skip
    return found


def compare_losses(seen: Observations, keys: Sequence[str], columns: dict[str, str]) -> list[Compared]:
    """Published laws of the loss whose inputs these observations have."""
    found = []
    for key in keys:
        entry = PUBLISHED[key]
        if entry.law.output != "loss_nats" or not set(entry.law.inputs) <= set(seen.inputs):
            continue
        if any(np.isnan(value) for value in entry.parameters.values()):
            continue
        predicted_N = np.broadcast_to(entry.law.value(entry.parameters, seen.inputs), seen.output_N.shape)
        error_N = 100 * np.abs(predicted_N / seen.output_N - 1)
        found.append(
            Compared(
                name=key, output="loss_nats", scales=len(seen), mean_percent=float(error_N.mean()),
                worst_percent=float(error_N.max()), note=_convention(entry, columns.get("params")),
            )
        )  # fmt: skip
    return found


def _convention(entry: Published, column: str | None) -> str:
    theirs = entry.columns.get("params")
    if theirs is None or column is None or column == theirs or "params" not in entry.law.inputs:
        return entry.note
    differs = f"counts {theirs}, these runs state {column}"
    return f"{differs}; {entry.note}" if entry.note else differs


def params_column(joint: Joint) -> str | None:
    """Which count of parameters the fit's scales state."""
    return next((name for name in PARAMS if name in joint.domain), None)
