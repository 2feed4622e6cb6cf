"""From a composed configuration to a `RunSpec`: every derived number is resolved here, once.

The keys are those of conf/train.yaml. This file knows no Hydra: it takes the configuration as a plain mapping.
"""

import functools
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from scalelab import data
from scalelab.errors import Refused, unknown
from scalelab.external import Command, command_of
from scalelab.keys import MULTIPLIERS, below, check_keys
from scalelab.models import MODELS, Model
from scalelab.optimizers import optimizer_kind
from scalelab.parametrizations import table
from scalelab.parametrizations.decay import from_independent
from scalelab.shape import Architecture, Shape
from scalelab.spec import DataSpec, Horizon, Hparams, RunSpec
from scalelab.values import fraction, integer, real

T = TypeVar("T")
FFN_MULTIPLE = 8  # ffn = mlp_ratio × width is rounded to it

FAMILY = ("head_dim", "heads", "kv_heads", "ffn", "experts", "top_k", "granularity")  # null in base: as the target's
HORIZON = ("tokens", "batch_tokens")


def config_dir() -> Path:
    """Where conf/ is: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside, beside = package / "conf", package.parent / "conf"
    if inside.is_dir():
        return inside
    if beside.is_dir():
        return beside
    raise Refused(f"no conf/ in {package} or beside it: is scalelab installed completely?")


def spec_from_config(config: Mapping[str, Any]) -> RunSpec:
    """The complete run that a configuration states; `Refused` on any key or value that is not accepted."""
    check_keys(config)
    model, optimizer, base = (below(config, name) for name in ("model", "optimizer", "base"))
    mlp_ratio = fraction("model.mlp_ratio", model.pop("mlp_ratio"))
    model_name, optimizer_name, parametrization = model.pop("name"), optimizer.pop("name"), config["parametrization"]
    if model_name not in MODELS:
        raise unknown("model", model_name, MODELS)
    command = command_of(config["trainer"])
    corpus = _data(config, MODELS[model_name], command)
    given = {**config}
    if not MODELS[model_name].attention:
        given.update(heads=1, kv_heads=1)
        base.update(heads=None, kv_heads=None, head_dim=None)
    shape = _shape(given, corpus.vocab, mlp_ratio, width=config["width"], depth=config["depth"])
    if odd := sorted(set(base) - {"width", "depth", *FAMILY, *HORIZON}):
        accepted = ", ".join(("width", "depth", *FAMILY, *HORIZON))
        raise Refused(f"unknown key base.{odd[0]}: accepted are {accepted}")
    stated = {name: value for name, value in base.items() if value is not None}
    base_horizon = {name: integer(f"base.{name}", stated.pop(name)) for name in HORIZON if name in stated}
    base_shape = Shape.unit()  # u-muP has no base of its own
    if not table(parametrization).unit_scaled:
        family = {"width": shape.width, "depth": shape.depth, **stated}
        base_shape = _shape(given, corpus.vocab, mlp_ratio, **family)
    return RunSpec(
        parametrization=parametrization,
        optimizer=optimizer_name,
        model=model_name,
        architecture=_make(Architecture, "model", model),
        shape=shape,
        base=base_shape,
        base_tokens=base_horizon.get("tokens"),
        base_batch_tokens=base_horizon.get("batch_tokens"),
        weight_decay_policy=_policy(config),
        hparams=_hparams(config, optimizer_name, optimizer),
        horizon=_make(
            Horizon,
            "horizon",
            {
                "tokens": integer("tokens", config["tokens"]),
                "batch_tokens": integer("batch_tokens", config["batch_tokens"]),
                "schedule": config["schedule"],
                **{k: real(k, config[k]) for k in ("warmup_fraction", "decay_fraction", "final_lr_ratio")},
                "warmup_tokens": None
                if config["warmup_tokens"] is None
                else integer("warmup_tokens", config["warmup_tokens"]),
            },
        ),
        data=corpus,
        seed=integer("seed", config["seed"]),
        dtype=str(config["dtype"]),
        command=command,
    )


def _shape(config: Mapping[str, Any], vocab: int, mlp_ratio: Fraction, *, width: Any, depth: Any, **rest: Any) -> Shape:
    """The shape of `width` and `depth` in the family the configuration describes; the target's, or the base's."""
    width, depth = integer("width", width), integer("depth", depth)
    family = {name: rest[name] if rest.get(name) is not None else config[name] for name in FAMILY}
    if width < 1:
        raise Refused(f"width={width}: a shape is made of positive integers")
    heads = family["heads"]
    if rest.get("head_dim") is not None:
        if rest.get("heads") is not None:
            raise Refused("base.heads and base.head_dim: give one of them")
        heads = None
    if heads is None:
        head_dim = integer("head_dim", family["head_dim"])
        if head_dim < 1 or width % head_dim:
            near = max(1, round(width / max(1, head_dim))) * max(1, head_dim)
            raise Refused(f"head_dim={head_dim} does not divide width={width}: try width={near}, or give heads")
        heads = width // head_dim
    heads, granularity = integer("heads", heads), integer("granularity", family["granularity"])
    if granularity < 1:
        raise Refused(f"granularity={granularity}: accepted is a positive whole number")
    ffn = family["ffn"]
    if ffn is None:
        ffn = rounded_ffn(mlp_ratio / granularity, width)
    elif granularity != 1:
        raise Refused(f"ffn={ffn} and granularity={granularity}: ffn is that of one expert as it is; give one of them")
    return Shape(
        vocab=vocab,
        context=integer("context", config["context"]),
        width=width,
        depth=depth,
        heads=heads,
        kv_heads=heads if family["kv_heads"] is None else integer("kv_heads", family["kv_heads"]),
        ffn=integer("ffn", ffn),
        experts=integer("experts", family["experts"]) * granularity,
        top_k=integer("top_k", family["top_k"]) * granularity,
    )


def _hparams(config: Mapping[str, Any], name: str, optimizer: Mapping[str, Any]) -> Hparams:
    init, multipliers = below(config, "init"), below(config, "multipliers")
    lr = real("lr", config["lr"]) * real("lr_factor", config["lr_factor"])
    accepted = ("weight_decay", "clip_norm", *optimizer_kind(name).reads)
    for key in optimizer:
        if key not in accepted:
            raise Refused(f"unknown key optimizer.{key} of {name!r}: accepted are {', '.join(accepted)}")
    for key in accepted:
        if key not in optimizer:
            raise Refused(f"optimizer.{key} was taken away, which {name!r} reads: see conf/optimizer/{name}.yaml")
    values = {
        **{name: _value(f"optimizer.{name}", value) for name, value in optimizer.items()},
        "lr": lr,
        **_independent_decay(config, optimizer, lr),
        "init_gain": real("init.gain", init.pop("gain")),
        "embedding_std": real("init.embedding_std", init.pop("embedding_std")),
        **{name: real(f"multipliers.{key}", multipliers.pop(key)) for key, name in MULTIPLIERS.items()},
        **{name: real(name, config[name]) for name in ("z_loss", "balance_loss")},
    }
    for group, left in (("init", init), ("multipliers", multipliers)):
        if left:
            raise Refused(f"unknown key {group}.{next(iter(left))}: see conf/train.yaml for the accepted ones")
    return _make(Hparams, "optimizer", values)


def _data(config: Mapping[str, Any], model: Model, command: Command | None) -> DataSpec:
    options = below(config, "data")
    name = options.pop("name")
    for key in ("path", "val_path"):  # a run is found again from any folder
        if isinstance(options.get(key), str):
            options[key] = os.path.abspath(os.path.expanduser(options[key]))
    given = tuple(sorted((key, value) for key, value in options.items() if value is not None))
    for key, value in given:
        if isinstance(value, list | dict):
            raise Refused(f"data.{key}={value!r}: accepted is one value, a number or text")
    unique_tokens = None if config["unique_tokens"] is None else integer("unique_tokens", config["unique_tokens"])
    if command is not None:
        if unique_tokens is not None:
            raise Refused(f"unique_tokens={unique_tokens} with trainer=command, which reads its own: leave it out")
        return data.external(name, given, command)
    corpus = _corpus(name, unique_tokens, given)
    if model.images != (corpus.record is not None):
        kind, other = ("images", "text") if model.images else ("text", "images")
        raise Refused(
            f"data={name} is {other} and model={config['model']['name']} takes {kind}: choose another of them"
        )
    return DataSpec(
        name=name,
        sha256=corpus.sha256,
        vocab=corpus.vocab,
        bytes_per_token=corpus.bytes_per_token,
        validation_tokens=integer("validation_tokens", config["validation_tokens"]),
        options=given,
        unique_tokens=unique_tokens,
    )


@functools.cache  # a plan asks for the same corpus once a run
def _corpus(name: str, unique_tokens: int | None, options: tuple[tuple[str, Any], ...]) -> data.Corpus:
    return data.load(name, unique_tokens=unique_tokens, **dict(options))


def _make(kind: type[T], group: str, values: Mapping[str, Any]) -> T:
    accepted = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in values:
        if name not in accepted:
            raise Refused(f"unknown key {group}.{name}: accepted are {', '.join(accepted)}")
    return kind(**values)


def rounded_ffn(mlp_ratio: Fraction, width: int) -> int:
    """The MLP's hidden size: mlp_ratio × width to the nearest multiple of `FFN_MULTIPLE`, at least one."""
    return max(1, round(mlp_ratio * width / FFN_MULTIPLE)) * FFN_MULTIPLE


def _policy(config: Mapping[str, Any]) -> str:
    """An independent weight decay is the same for every tensor and at every scale, whatever the table says."""
    policy = str(config["weight_decay_policy"])
    if config["independent_weight_decay"] is None:
        return policy
    if policy not in ("table", "independent"):
        raise Refused(
            f"independent_weight_decay with weight_decay_policy={policy}: the policy moves it; give one of them"
        )
    return "independent"


def _independent_decay(config: Mapping[str, Any], optimizer: Mapping[str, Any], lr: float) -> dict[str, float]:
    """torch's weight decay for a decay per step that does not depend on lr, where that is what was given."""
    if config["independent_weight_decay"] is None or not lr > 0:
        return {}
    if real("optimizer.weight_decay", optimizer["weight_decay"]) != 0:
        raise Refused("optimizer.weight_decay and independent_weight_decay: give one of them")
    return {"weight_decay": from_independent(real("independent_weight_decay", config["independent_weight_decay"]), lr)}


def _value(name: str, value: Any) -> float | str | None:
    if name == "optimizer.clip_norm" and value is None:
        return None
    return str(value) if name == "optimizer.shape_factor" else real(name, value)
