"""Weight decay through AdamW's time scale τ = B/(η λ D): over how much of the run the weights are an average.

Swept decays have a law of τ. Others carry the proxies': the table moves them with shape; where the table is silent on
the horizon and no proxy varied it, τ in runs follows Power Lines (arXiv:2505.13738 eq. 4: τ ∝ (tokens a parameter)^
−0.527), which for equal tokens a parameter is Wang & Aitchison's constant number of epochs (arXiv:2405.13698).
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from scalelab.laws.joint import priors
from scalelab.parametrizations.decay import TPP_EXPONENT
from scalelab.parametrizations.table import Role
from scalelab.recipe import Value
from scalelab.recommend.belief import Belief
from scalelab.recommend.regret import safest
from scalelab.resolve import moves_with_horizon, settings
from scalelab.spec import RunSpec

POWER_LINES_FIT = "Power Lines (arXiv:2505.13738) eq. 4"
MATRICES = (Role.HIDDEN, Role.EXPERT)


@dataclass(frozen=True, kw_only=True)
class Decay:
    """The target with its weight decay, and `log_tau`, ln τ of the base's values where a law knows its valley."""

    spec: RunSpec
    value: Value
    log_tau: float | None


def carried(spec: RunSpec, proxy: RunSpec, belief: Belief, varied: Collection[str]) -> Decay:
    """The weight decay of a target whose learning rate and batch are chosen; `varied` are the proxies' scales."""
    own, horizon = spec.hparams.weight_decay, spec.horizon
    if "tau" in belief.valleys:
        log_tau = safest(belief, "tau", {})
        scale = horizon.batch_tokens / (spec.hparams.lr * horizon.tokens)
        low, high = np.exp(-np.quantile(belief.best("tau", {}), [0.975, 0.025])) * scale
        decay = scale * math.exp(-log_tau)
        value = Value(
            name="weight_decay", value=decay, low=float(low), high=float(high), source="law",
            rests_on=f"the law of τ of all runs in one likelihood: λ = B/(η τ D) with τ {math.exp(log_tau):.3g} runs",
        )  # fmt: skip
        return Decay(spec=_with_decay(spec, decay), value=value, log_tau=log_tau)
    policy = f"policy {spec.weight_decay_policy!r}"
    if own == 0:
        return _kept(spec, "proxies", "as the proxies had it: none; no law of it")
    tokens, batch = (
        1.0 if name in varied else getattr(horizon, name) / getattr(proxy.horizon, name)
        for name in ("tokens", "batch_tokens")
    )
    if (tokens, batch) == (1.0, 1.0):
        return _kept(spec, "theory", f"the proxies', moved with shape by the table's {policy}; no decay was swept")
    if moves_with_horizon(proxy):
        return _kept(spec, "theory", f"the proxies', moved with shape and horizon by the table's {policy}")
    rate = batch ** priors.exponent("lr", "batch_tokens").mean if belief.unmeasured else 1.0
    decay = own * batch / rate * tokens ** (-1 - float(TPP_EXPONENT))
    value = Value(
        name="weight_decay", value=decay, source="published",
        rests_on=f"the proxies' {own:g}, moved with shape by the table's {policy}, which is silent on the horizon: with"
        f" tokens ×{tokens:.3g} and batch ×{batch:.3g} τ in runs goes ×{tokens ** float(TPP_EXPONENT):.3g} by"
        f" {POWER_LINES_FIT}; no decay was swept",
    )  # fmt: skip
    return Decay(spec=_with_decay(spec, decay), value=value, log_tau=None)


def time_scale(spec: RunSpec, decay: Value) -> Value | None:
    """τ of the matrices in the blocks, as a share of the run; None where they are not decayed."""
    found = [s for s in settings(spec) if s.tensor.role in MATRICES and s.weight_decay > 0]
    if not found:
        return None
    steps = 1 / (found[0].lr * found[0].weight_decay)
    share = steps / spec.horizon.steps
    low, high = None, None
    if decay.low is not None and decay.high is not None and isinstance(decay.value, float):
        low, high = share * decay.value / decay.high, share * decay.value / decay.low
    return Value(
        name="tau", value=share, low=low, high=high, unit="runs", source=decay.source,
        rests_on=f"1/(lr·λ) of {found[0].tensor.name}: {steps:,.0f} of {spec.horizon.steps:,} steps; it follows from"
        " weight_decay",
    )  # fmt: skip


def _kept(spec: RunSpec, source: str, why: str) -> Decay:
    value = Value(name="weight_decay", value=spec.hparams.weight_decay, source=source, rests_on=why)
    return Decay(spec=spec, value=value, log_tau=None)


def _with_decay(spec: RunSpec, decay: float) -> RunSpec:
    return replace(spec, hparams=replace(spec.hparams, weight_decay=decay))
