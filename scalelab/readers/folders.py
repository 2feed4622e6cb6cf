"""Our own run folders: everything about them is known, so nothing is guessed."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import COLUMNS
from scalelab.models import count_params
from scalelab.readers.units import ENDINGS
from scalelab.spec import RunSpec, as_plain
from scalelab.trials import RunFolder, Trial, run_folders

# What may differ between the runs of one law: the scales, the tuned hyperparameters, the seed. `base` may not.
FREE = (
    "shape.",
    "horizon.tokens",
    "horizon.batch_tokens",
    "hparams.lr",
    "hparams.weight_decay",
    "seed",
    "data.options",
)

CONVENTIONS: Mapping[str, str] = {
    "params": "without embeddings (params_non_embedding)",
    "loss": "nats a token, over the validation set",
    "batch": "tokens",
    "lr": "peak",
    "flops": "6N plus attention, validation not counted",
}


def folder_runs(path: Path) -> tuple[pd.DataFrame, tuple[RunSpec, ...]]:
    """The table and the specs of all run folders at or below `path`; empty where there is none.

    Raises:
        Refused: on a torn or foreign trial.json.
    """
    trials = [(folder, folder.read()) for folder in run_folders(path)]
    table = pd.DataFrame([_row(folder, trial) for folder, trial in trials])
    return table[[name for name in COLUMNS if name in table]], tuple(trial.spec for _, trial in trials)


def _row(folder: RunFolder, trial: Trial) -> dict[str, Any]:
    spec = trial.spec
    return {
        "run": str(folder.path),
        "parametrization": spec.parametrization,
        "optimizer": spec.optimizer,
        "data": spec.data.name,
        "width": spec.shape.width,
        "depth": spec.shape.depth,
        "params_non_embedding": count_params(spec).non_embedding,
        "tokens": spec.horizon.tokens,
        "batch_tokens": spec.horizon.batch_tokens,
        "lr": spec.hparams.lr,
        "weight_decay": spec.hparams.weight_decay,
        "seed": spec.seed,
        "loss_nats": float("nan") if trial.loss_nats is None else trial.loss_nats,
        "outcome": ENDINGS[trial.outcome.lower()],  # what is cut short is not a result: PRUNED reads as FAILED
        "cost_flops": float(trial.cost_flops),
    }


def refuse_mixture(specs: Sequence[RunSpec]) -> None:
    """Refuse runs of one parametrization and optimizer that differ in something no law here explains."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for spec in specs:
        kinds.setdefault((spec.parametrization, spec.optimizer), []).append(dict(_leaves(as_plain(spec))))
    for (parametrization, optimizer), members in kinds.items():
        first = members[0]
        for other in members[1:]:
            for key in first.keys() | other.keys():
                if first.get(key) != other.get(key) and not key.startswith(FREE):
                    raise Refused(
                        f"{parametrization}/{optimizer} runs differ in {key} ({first.get(key)!r} and"
                        f" {other.get(key)!r}): a law needs it fixed, give the runs of one value"
                    )


def _leaves(plain: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, str(plain) if isinstance(plain, list) else plain
