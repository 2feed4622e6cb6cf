"""A run as a tracker's tables show it: a name, the columns that people sort by, what it says of its curve."""

from collections.abc import Mapping
from typing import Any

from scalelab.collection import rows
from scalelab.spec import RunSpec
from scalelab.trials import Trial

X_AXIS = "train/tokens_so_far"  # before the update of a step; `tokens` is the horizon
CURVE = {  # of a record: the scalars, by the names that a tracker gives them
    "loss_nats": "train/loss_nats",
    "lr": "train/lr",
    "seconds": "train/seconds",
    "validation_loss_nats": "validation/loss_nats",
}


def name_of(spec: RunSpec) -> str:
    """A name for people: "mup adamw w64 d2 lr=0.01 tokens=640 seed=0 f84aa5be42f5"; no two runs have the same."""
    return (
        f"{spec.parametrization} {spec.optimizer} w{spec.shape.width} d{spec.shape.depth} lr={spec.hparams.lr:.4g}"
        f" tokens={spec.horizon.tokens} seed={spec.seed} {spec.fingerprint}"
    )


def columns_of(spec: RunSpec) -> dict[str, Any]:
    """What a study varies, by the names of a table of runs, and which run it is."""
    return {**rows.columns_of(spec), "schedule": spec.horizon.schedule, "fingerprint": spec.fingerprint}


def results_of(trial: Trial) -> dict[str, Any]:
    """How a run ended, by the names of a table of runs."""
    return {
        "outcome": str(trial.outcome),
        "loss_nats": trial.loss_nats,
        "cost_flops": trial.cost_flops,
        "seconds": trial.seconds,
        "reason": trial.reason,
    }


def scalars_of(values: Mapping[str, Any]) -> dict[str, float]:
    """The scalars of a record, without those that it does not have."""
    return {named: values[ours] for ours, named in CURVE.items() if values.get(ours) is not None}
