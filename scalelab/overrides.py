"""From a `RunSpec` back to the Hydra overrides that make it: what a recipe hands to `scalelab train`."""

import json
from typing import Any

from scalelab.config import MULTIPLIERS
from scalelab.shape import Shape
from scalelab.spec import RunSpec, as_plain


def overrides_of(spec: RunSpec) -> list[str]:
    """The Hydra overrides that make exactly this spec again (seed, study and device aside).

    What `spec_from_config` does backwards: `spec_from_config(compose(overrides_of(spec))) == spec` for any spec.
    """
    shape, hparams, horizon = spec.shape, spec.hparams, spec.horizon
    architecture = {f"model.{name}": value for name, value in as_plain(spec.architecture).items()}
    sizes = ("width", "depth", "heads", "kv_heads", "ffn", "experts", "top_k")
    stated = {} if spec.base == Shape.unit() else {f"base.{name}": getattr(spec.base, name) for name in sizes}
    values = {
        "parametrization": spec.parametrization,
        **{name: getattr(shape, name) for name in (*sizes, "context")},
        **stated,
        **{f"base.{name}": getattr(spec, f"base_{name}") for name in ("tokens", "batch_tokens")},
        "weight_decay_policy": spec.weight_decay_policy,
        "lr": hparams.lr,
        **{name: getattr(horizon, name) for name in ("tokens", "batch_tokens", "schedule", "warmup_fraction",
                                                     "decay_fraction", "final_lr_ratio")},
        **architecture,
        **{f"optimizer.{name}": getattr(hparams, name) for name in ("weight_decay", "clip_norm", *spec.kind.reads)},
        **{name: getattr(hparams, name) for name in ("z_loss", "balance_loss")},
        "init.gain": hparams.init_gain,
        "init.embedding_std": hparams.embedding_std,
        **{f"multipliers.{key}": getattr(hparams, name) for key, name in MULTIPLIERS.items()},
        "validation_tokens": spec.data.validation_tokens,
        **{f"data.{name}": value for name, value in spec.data.options},
    }  # fmt: skip
    groups = [f"model={spec.model}", f"optimizer={spec.optimizer}", f"data={spec.data.name}"]
    return [*groups, *(f"{name}={_written(value)}" for name, value in values.items())]


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and not value.isidentifier() else str(value)
