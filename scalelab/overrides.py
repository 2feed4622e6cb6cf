"""Hydra's overrides: out of a command line, and from a `RunSpec` back to those that make it (a recipe's)."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scalelab.errors import Refused
from scalelab.external import command_overrides
from scalelab.keys import KEYS, MULTIPLIERS
from scalelab.models import MODELS
from scalelab.shape import Shape
from scalelab.spec import RunSpec, as_plain

GROUPS = ("model", "optimizer", "data")
# Of a run, wherever and with whatever tools it is trained.
SETTINGS = KEYS - {"out", "study", "hydra", "tracker", "device", "threads", "compile", "parallel", "pruning"}


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
                                                     "warmup_tokens", "decay_fraction", "final_lr_ratio")},
        **parts,
        **{f"optimizer.{name}": getattr(hparams, name) for name in ("weight_decay", "clip_norm", *spec.kind.reads)},
        **{name: getattr(hparams, name) for name in ("z_loss", "balance_loss")},
        "init.gain": hparams.init_gain,
        "init.embedding_std": hparams.embedding_std,
        **{f"multipliers.{key}": getattr(hparams, name) for key, name in MULTIPLIERS.items()},
        "unique_tokens": spec.data.unique_tokens,
        "validation_tokens": spec.data.validation_tokens,
        "dtype": spec.dtype,
        **{f"data.{name}": value for name, value in spec.data.options},
    }  # fmt: skip
    groups = [f"model={spec.model}", f"optimizer={spec.optimizer}", f"data={spec.data.name}"]
    trainer = [] if spec.command is None else command_overrides(spec.command)
    return [*groups, *(f"{name}={_written(value)}" for name, value in values.items()), *trainer]


def of_a_file(stated: Sequence[str], given: Sequence[str]) -> list[str]:
    """The overrides that a file (a recipe) states: settings of a run, which is all that a file of others may set.

    What is run is not among them: where the file states a command, `given`, the overrides of the command line, say it.

    Raises:
        Refused: on anything else.
    """
    kept = []
    for override in stated:
        key, equals, value = override.partition("=")
        top = key.lstrip("+").partition(".")[0]
        if not equals or not re.fullmatch(r"(\+\+)?[a-z_]+(\.\w+)*", key) or top not in SETTINGS or "${" in value:
            raise Refused(f"a recipe that states {override!r}: accepted are settings of a run, KEY=VALUE")
        if key in GROUPS and not value.isidentifier():
            raise Refused(f"a recipe that states {override!r}: accepted is the name of a configuration in conf/{key}")
        if top != "trainer":
            kept.append(override)
        elif not any(argument.startswith("trainer=") for argument in given):
            raise Refused(
                f"a recipe that states {override!r}: what a file says is not run; say it yourself, trainer=… and its"
                " command"
            )
    return kept


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if "${" in str(value):  # it would be resolved where it is read
        raise Refused(f"{value!r} in a run's specification: accepted are values, not what stands for them")
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and not value.isidentifier() else str(value)
