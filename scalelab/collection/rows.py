"""A trial → a row: what is read often of it, in plain columns."""

import json
from collections.abc import Mapping
from typing import Any

from scalelab.models import count_flops_per_token, count_params
from scalelab.spec import RunSpec
from scalelab.trials import Trial

# What may differ between the runs of one law: the scales, the tuned hyperparameters, the seed. `base` may not.
FREE: Mapping[str, tuple[str, ...]] = {
    "shape": (),  # all of it
    "seed": (),
    "horizon": ("tokens", "batch_tokens"),
    "hparams": ("lr", "weight_decay"),
    "data": ("options",),
    "command": ("options",),
}
_KINDS: dict[str, str] = {}  # by another text of the same; they are few
MACHINE = ("host", "device", "threads", "torch")  # of a trial's provenance, what says on what it was trained


def row_of(trial: Trial, plain_spec: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a trial; `plain_spec` is its spec as JSON has it.

    `kind` is a text that runs have in common which differ in nothing but what is `FREE`. What is `cost_flops` and
    `flops_per_token` is counted as a trial's cost is; an unknown loss is NaN, other unknowns are None.
    """
    spec, made = trial.spec, trial.provenance
    return {
        "outcome": trial.outcome.value,
        **columns_of(spec),
        "loss_nats": float("nan") if trial.loss_nats is None else float(trial.loss_nats),
        "cost_flops": float(trial.cost_flops),
        "flops_per_token": float(count_flops_per_token(spec).six_n_attention),
        "tokens_seen": trial.tokens_seen,
        "trunk_tokens": trial.trunk_tokens,
        "seconds": float(trial.seconds),
        "energy_joules": None if trial.energy_joules is None else float(trial.energy_joules),
        **{name: made.get(name) for name in MACHINE},
        "kind": kind_of(plain_spec),
    }


def columns_of(spec: RunSpec) -> dict[str, Any]:
    """What a study varies, by the names of a table of runs."""
    return {
        "parametrization": spec.parametrization,
        "optimizer": spec.optimizer,
        "model": spec.model,
        "data": spec.data.name,
        "width": spec.shape.width,
        "depth": spec.shape.depth,
        "params_non_embedding": count_params(spec).non_embedding,
        "tokens": spec.horizon.tokens,
        "batch_tokens": spec.horizon.batch_tokens,
        "lr": float(spec.hparams.lr),
        "weight_decay": float(spec.hparams.weight_decay),
        "seed": spec.seed,
    }


def kind_of(plain_spec: Mapping[str, Any]) -> str:
    """What is fixed in a law, of a spec as JSON has it."""
    kept = {name: value for name, value in plain_spec.items() if FREE.get(name) != ()}
    for part, names in FREE.items():
        if names and part in kept:
            kept[part] = {name: value for name, value in kept[part].items() if name not in names}
    asked = str(kept)
    if asked not in _KINDS:
        _KINDS[asked] = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return _KINDS[asked]
