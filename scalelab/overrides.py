"""Hydra's overrides: out of a command line, and from a `RunSpec` back to those that make it (a recipe's)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scalelab.config import MULTIPLIERS
from scalelab.errors import Refused
from scalelab.external import command_overrides
from scalelab.models import MODELS
from scalelab.shape import Shape
from scalelab.spec import RunSpec, as_plain


def split_flags(arguments: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    """Hydra's overrides, whether a multirun is asked for, and further config directories; other flags are refused."""
    overrides: list[str] = []
    multirun, directories = False, []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-m", "--multirun"):
            multirun = True
        elif argument in ("--config-dir", "-cd") or argument.startswith("--config-dir="):
            directory = Path(argument.partition("=")[2] or next(rest, ""))
            if not directory.is_dir():
                raise Refused(f"{argument} {directory}: accepted is a folder of configuration files")
            directories.append(str(directory.resolve()))
        elif argument.startswith("-"):
            raise Refused(f"unknown option {argument}: accepted are KEY=VALUE, -m, --config-dir and what --help lists")
        else:
            overrides.append(argument)
    return overrides, multirun, directories


def overrides_of(spec: RunSpec) -> list[str]:
    """The Hydra overrides that make exactly this spec again (seed, study and device aside).

    What `spec_from_config` does backwards: `spec_from_config(compose(overrides_of(spec))) == spec` for any spec.
    """
    shape, hparams, horizon = spec.shape, spec.hparams, spec.horizon
    lacks = MODELS[spec.model].lacks  # no keys of this model's configuration
    parts = {f"model.{name}": value for name, value in as_plain(spec.architecture).items() if name not in lacks}
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
        **parts,
        **{f"optimizer.{name}": getattr(hparams, name) for name in ("weight_decay", "clip_norm", *spec.kind.reads)},
        **{name: getattr(hparams, name) for name in ("z_loss", "balance_loss")},
        "init.gain": hparams.init_gain,
        "init.embedding_std": hparams.embedding_std,
        **{f"multipliers.{key}": getattr(hparams, name) for key, name in MULTIPLIERS.items()},
        "validation_tokens": spec.data.validation_tokens,
        **{f"data.{name}": value for name, value in spec.data.options},
    }  # fmt: skip
    groups = [f"model={spec.model}", f"optimizer={spec.optimizer}", f"data={spec.data.name}"]
    trainer = [] if spec.command is None else command_overrides(spec.command)
    return [*groups, *(f"{name}={_written(value)}" for name, value in values.items()), *trainer]


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and not value.isidentifier() else str(value)
