"""The numbers a run is tuned in: hyperparameters at the base, and the horizon along which the learning rate moves."""

import math
from dataclasses import dataclass
from typing import Literal

from scalelab.errors import Refused, unknown
from scalelab.optimizers.factors import SHAPE_FACTORS

SCHEDULES = ("cosine", "linear", "wsd", "constant")


def _finite(what: str, value: float, *, low: float, above: bool = False, high: float = math.inf) -> None:
    inside = math.isfinite(value) and (value > low if above else value >= low) and value <= high
    if not inside:
        bound = f"{'>' if above else '≥'} {low:g}" + (f" and ≤ {high:g}" if math.isfinite(high) else "")
        raise Refused(f"{what}={value!r}: accepted is a finite number {bound}")


@dataclass(frozen=True, kw_only=True)
class Hparams:
    """Hyperparameters at the base shape; the parametrization carries them to the target.

    `lr` is the peak learning rate η of the base. `weight_decay` is torch's λ (a step decays by lr·λ). `init_gain` is
    the g in std = g/√fan_in of the base's matrices, `embedding_std` the embedding's. The four multipliers are the
    tunable constants α of muP on embedding output, attention logits, residual branches and logits.

    Raises:
        Refused: on a value that is NaN, negative, or otherwise out of range.
    """

    lr: float
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    momentum: float = 0.0
    clip_norm: float | None = 1.0
    init_gain: float = 1.0
    embedding_std: float = 1.0
    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_multiplier: float = 1.0
    activation_multiplier: float = 1.0
    residual_attention_ratio: float = 1.0
    shape_factor: str = "none"
    damping: float = 1e-8
    handed_lr_factor: float = 1.0
    z_loss: float = 0.0
    balance_loss: float = 0.01

    def __post_init__(self) -> None:
        _finite("lr", self.lr, low=0, above=True)
        _finite("weight_decay", self.weight_decay, low=0)
        for name in ("beta1", "beta2", "momentum"):
            if not 0 <= getattr(self, name) < 1:  # false for NaN too
                raise Refused(f"{name}={getattr(self, name)!r}: accepted is a number ≥ 0 and < 1")
        _finite("eps", self.eps, low=0, above=True)  # at 0 Adam divides 0 by 0 on entries without a gradient
        if self.clip_norm is not None:
            _finite("clip_norm", self.clip_norm, low=0, above=True)
        for name in ("init_gain", "embedding_std"):
            _finite(name, getattr(self, name), low=0)
        for name in (
            "embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_multiplier",
            "activation_multiplier", "residual_attention_ratio", "damping", "handed_lr_factor",
        ):  # fmt: skip
            _finite(name, getattr(self, name), low=0, above=True)
        for name in ("z_loss", "balance_loss"):
            _finite(name, getattr(self, name), low=0)
        if self.shape_factor not in SHAPE_FACTORS:
            raise unknown("shape_factor", self.shape_factor, SHAPE_FACTORS)


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """How long a run is, in tokens, and how its learning rate moves along it.

    `batch_tokens` is tokens a step. Warmup is linear over `warmup_fraction` of the steps, or over `warmup_tokens`, the
    same at every horizon; then the factor falls from 1 to `final_lr_ratio` by "cosine" or "linear" over the rest, stays
    ("constant"), or stays and falls linearly over the last `decay_fraction` of the steps ("wsd": warmup, stable, decay;
    MiniCPM, arXiv:2404.06395).

    Raises:
        Refused: where tokens are not a whole number of steps, or a fraction is outside [0, 1].

    >>> horizon = Horizon(tokens=4096, batch_tokens=512, schedule="linear", warmup_fraction=0.25)
    >>> [round(horizon.lr_factor(step), 3) for step in range(horizon.steps)]
    [0.5, 1.0, 1.0, 0.833, 0.667, 0.5, 0.333, 0.167]
    """

    tokens: int
    batch_tokens: int
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    warmup_fraction: float = 0.1
    decay_fraction: float = 0.2
    final_lr_ratio: float = 0.0
    warmup_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "batch_tokens"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise Refused(f"{name}={value!r}: accepted is a positive whole number of tokens")
        if self.tokens % self.batch_tokens:
            below = self.tokens // self.batch_tokens * self.batch_tokens
            raise Refused(
                f"tokens={self.tokens} are not a whole number of steps of batch_tokens={self.batch_tokens}:"
                f" try tokens={below or self.batch_tokens} or {below + self.batch_tokens}"
            )
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        for name in ("warmup_fraction", "decay_fraction", "final_lr_ratio"):
            _finite(name, getattr(self, name), low=0, high=1)
        self._check_warmup()

    def _check_warmup(self) -> None:
        given = self.warmup_tokens
        if given is None:
            if self.schedule == "wsd" and self.warmup_fraction + self.decay_fraction > 1:
                raise Refused(
                    f"warmup_fraction={self.warmup_fraction} and decay_fraction={self.decay_fraction} overlap:"
                    " together they may take at most 1"
                )
            return
        if self.warmup_fraction != 0:
            raise Refused(f"warmup_tokens={given} and warmup_fraction={self.warmup_fraction}: give one, the other 0")
        if not isinstance(given, int) or isinstance(given, bool) or given < 0 or given % self.batch_tokens:
            near = max(1, round(given / self.batch_tokens)) * self.batch_tokens if isinstance(given, int) else 0
            raise Refused(
                f"warmup_tokens={given!r}: accepted is a whole number of steps of batch_tokens={self.batch_tokens};"
                f" try warmup_tokens={near}"
            )
        if given > (room := self.tokens - (self.steps - self.decay_start) * self.batch_tokens):
            raise Refused(f"warmup_tokens={given} of tokens={self.tokens}: the schedule leaves at most {room} for it")

    @property
    def steps(self) -> int:
        return self.tokens // self.batch_tokens

    @property
    def warmup_steps(self) -> int:
        if self.warmup_tokens is not None:
            return self.warmup_tokens // self.batch_tokens
        return round(self.warmup_fraction * self.steps)

    @property
    def decay_start(self) -> int:
        """The first step of the fall of the learning rate."""
        if self.schedule == "wsd":
            return self.steps - round(self.decay_fraction * self.steps)
        return self.warmup_steps

    def lr_factor(self, step: int) -> float:
        """The factor on the peak learning rate at `step` (0 … steps−1); the last step's is one step above the end."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant" or step < self.decay_start:
            return 1.0
        progress = (step - self.decay_start) / (self.steps - self.decay_start)
        fall = 0.5 * (1 + math.cos(math.pi * progress)) if self.schedule == "cosine" else 1 - progress
        return self.final_lr_ratio + (1 - self.final_lr_ratio) * fall
