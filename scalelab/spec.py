"""A run, stated completely: what is trained, from which base, on what, for how long, with which hyperparameters.

Everything a number in a trial depends on stands in its `RunSpec`, resolved once; the fingerprint of that is the run's
identity. Two specs with the same fingerprint are the same run, and a finished run is never run again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.external import Command, from_plain_command
from scalelab.hparams import Horizon, Hparams
from scalelab.models import count_flops_per_token, params_of, unit_scaled
from scalelab.optimizers import Optimizer, optimizer_kind
from scalelab.parametrizations import POLICIES, table
from scalelab.parametrizations.table import Site
from scalelab.scale import ONE, Ratios
from scalelab.shape import Architecture, Shape

SPEC_VERSION = 2
ABSENT = {"absent": True}  # of a field that came later: where it is None, records are as they were without it
DTYPES = ("float32", "bfloat16")  # of matrix products; weights, moments and the residual stream are float32


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which corpus: `sha256` over its tokens is its identity; `options` only say where this machine finds it.

    `unique_tokens` is how many of its tokens are trained on, None where all of them are.
    """

    name: str
    sha256: str
    vocab: int
    bytes_per_token: float | None
    validation_tokens: int
    options: tuple[tuple[str, Any], ...] = field(default=())
    unique_tokens: int | None = field(default=None, metadata=ABSENT)


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run, complete. See `fingerprint` for its identity.

    `base` is the shape at which `hparams` are stated: at shape == base every parametrization trains the same network
    (for a unit-scaled one the base is the shape of ones). `base_tokens` and `base_batch_tokens` are the horizon at
    which they are stated, None where that is the run's own. `weight_decay_policy` is one of `POLICIES`. `command` is
    what trains it, None where that is scalelab.

    Raises:
        Refused: on an unknown parametrization or optimizer, a batch that is not whole sequences, dimensions that may
            not differ from the base, or a depth-scaled init under a table that scales branches with depth already.
    """

    parametrization: str
    optimizer: str
    model: str = "transformer"
    architecture: Architecture
    shape: Shape
    base: Shape
    hparams: Hparams
    horizon: Horizon
    data: DataSpec
    seed: int
    base_tokens: int | None = None
    base_batch_tokens: int | None = None
    weight_decay_policy: str = "table"
    dtype: str = "float32"
    command: Command | None = field(default=None, metadata=ABSENT)

    def __post_init__(self) -> None:
        optimizer_kind(self.optimizer)
        if self.weight_decay_policy not in POLICIES:
            raise unknown("weight_decay_policy", self.weight_decay_policy, POLICIES)
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise Refused(f"seed={self.seed!r}: accepted is a whole number ≥ 0")
        if self.shape.vocab != self.data.vocab:
            raise Refused(f"vocab={self.shape.vocab} but data {self.data.name!r} has vocab={self.data.vocab}")
        self._check_horizon()
        self._check_base()
        self._check_parametrization()

    def _check_horizon(self) -> None:
        if self.horizon.batch_tokens % self.shape.context:
            raise Refused(
                f"batch_tokens={self.horizon.batch_tokens} is not a whole number of sequences of"
                f" context={self.shape.context}: try batch_tokens={self.shape.context * self.sequences}"
            )
        if self.kind.then is None:
            return
        if self.horizon.schedule != "wsd":
            raise Refused(
                f"optimizer {self.optimizer!r} with schedule={self.horizon.schedule!r}: it changes hands where the"
                " learning rate starts to fall, accepted is schedule=wsd"
            )
        if self.horizon.decay_start == self.horizon.steps:
            raise Refused(
                f"optimizer {self.optimizer!r} with decay_fraction={self.horizon.decay_fraction}: none of the"
                f" {self.horizon.steps} steps is left for the optimizer that takes over, use a larger one"
            )

    def _check_base(self) -> None:
        for name in ("base_tokens", "base_batch_tokens"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise Refused(f"{name}={value!r}: accepted is a positive whole number of tokens, or null")
        absolute = table(self.parametrization).unit_scaled
        if absolute != (self.base == Shape.unit()):
            stated = "the shape of ones" if absolute else "a shape of the model's family"
            raise Refused(f"the base of {self.parametrization!r} is {stated}: leave base to the configuration")
        for name in () if absolute else ("vocab", "context"):
            if getattr(self.shape, name) != getattr(self.base, name):
                raise Refused(f"{name} differs between shape and base: no parametrization here scales it")

    def _check_parametrization(self) -> None:
        rules = table(self.parametrization)
        if rules.unit_scaled:
            unit_scaled.check(self.model, self.architecture, vars(self.hparams))
        elif (self.hparams.activation_multiplier, self.hparams.residual_attention_ratio) != (1.0, 1.0):
            raise Refused(
                "multipliers.activation and multipliers.attention_ratio are those of unit-scaled networks:"
                f" leave them at 1 under {self.parametrization!r}"
            )
        if self.architecture.residual_init == "depth-scaled" and rules.sites[Site.RESIDUAL] != ONE:
            raise Refused(
                f"residual_init='depth-scaled' under {self.parametrization!r}, which scales residual branches with"
                " depth itself: the two are not to be combined, use residual_init='plain'"
            )

    @property
    def kind(self) -> Optimizer:
        return optimizer_kind(self.optimizer)

    @property
    def sequences(self) -> int:
        """Sequences a step."""
        return max(1, self.horizon.batch_tokens // self.shape.context)

    @property
    def cost_flops(self) -> int:
        """Training FLOPs by the 6N-plus-attention convention (`FlopCount.six_n_attention`); validation not counted."""
        return self.horizon.tokens * count_flops_per_token(self).six_n_attention

    @property
    def scales(self) -> Ratios:
        """What the run as a whole scales by, target against base: head dimension, depth, batch, tokens, experts, N."""
        at, base = self.shape, self.base
        # Of a network of ones there is nothing to count; no unit-scaled table has a rule in N.
        counted = at if table(self.parametrization).unit_scaled else base
        n, n_base = (params_of(self.model, shape, self.architecture).non_embedding for shape in (at, counted))
        return Ratios(
            head_dim=at.ratio(base, "head_dim"),
            depth=at.ratio(base, "depth"),
            batch=Fraction(self.horizon.batch_tokens, self.base_batch_tokens or self.horizon.batch_tokens),
            tokens=Fraction(self.horizon.tokens, self.base_tokens or self.horizon.tokens),
            experts=at.ratio(base, "experts"),
            params=Fraction(n, n_base),
        )

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits over everything the result depends on, the table's own cells included."""
        identity = as_plain(self)
        identity["data"].pop("options")
        if self.command is not None:
            identity["command"].pop("options")
        if self.horizon.warmup_tokens is None:  # so that runs have the names they had before there was such a field
            identity["horizon"].pop("warmup_tokens")
        identity["table"] = table(self.parametrization).digest
        identity["version"] = SPEC_VERSION
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_plain(value: Any) -> Any:
    """Dataclasses, tuples and enums as JSON types; `TypeError` on anything it cannot encode without loss."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = ((f, getattr(value, f.name)) for f in fields(value))
        return {f.name: as_plain(item) for f, item in kept if item is not None or not f.metadata.get("absent")}
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [as_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"cannot encode {type(value).__name__} {value!r} in a run's identity")


def leaves(plain: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The single settings of a spec in JSON types, each by its place in it.

    >>> dict(leaves({"hparams": {"lr": 0.1}, "seed": 0}))
    {'hparams.lr': 0.1, 'seed': 0}
    """
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, plain


FIELDS = frozenset(f.name for f in fields(RunSpec))
_PARTS: dict[str, Any] = {}  # those of a study's runs are few


def from_plain(plain: Mapping[str, Any]) -> RunSpec:
    """The `RunSpec` that `as_plain` wrote; `Refused` where a field is missing, unknown or out of range."""
    known = FIELDS
    if odd := sorted((set(plain) ^ known) - ({"command"} - set(plain))):
        raise Refused(f"not a run specification of this version: {', '.join(odd)} missing or unknown")
    data = dict(plain["data"])
    data["options"] = tuple((name, value) for name, value in data["options"])
    try:
        return RunSpec(
            **{**plain, "architecture": _part(Architecture, plain["architecture"]),
               "shape": _part(Shape, plain["shape"]), "base": _part(Shape, plain["base"]),
               "hparams": Hparams(**plain["hparams"]), "horizon": _part(Horizon, plain["horizon"]),
               "data": DataSpec(**data),
               "command": from_plain_command(plain["command"]) if plain.get("command") else None}
        )  # fmt: skip
    except (TypeError, KeyError) as error:
        raise Refused(f"not a run specification of this version: {error}") from None


def _part(cls: type[Any], values: Mapping[str, Any]) -> Any:
    """A part of a spec, checked once; by its text, as 1, 1.0 and true are equal."""
    key = f"{cls.__name__}{values}"
    if key not in _PARTS:
        if len(_PARTS) >= 4096:
            _PARTS.clear()
        _PARTS[key] = cls(**values)
    return _PARTS[key]


__all__ = ["DataSpec", "Horizon", "Hparams", "RunSpec", "as_plain", "from_plain"]
