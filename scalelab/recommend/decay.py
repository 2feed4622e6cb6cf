"""Weight decay through AdamW's time scale τ = B/(η λ D): over how much of the run the weights are an average.

Swept decays have a law of τ. Others carry the proxies': the table moves them with shape. Where the table is silent on
the horizon, no proxy varied it and the target trains longer than they did, τ in runs follows Power Lines
(arXiv:2505.13738 eq. 4: τ ∝ (tokens a parameter)^−0.527), which at equal tokens a parameter is Wang & Aitchison's
constant number of epochs (arXiv:2405.13698); a run as long as theirs keeps what the table makes of its size.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from scalelab.laws.joint import priors
from scalelab.models import count_params
from scalelab.parametrizations import table
from scalelab.parametrizations.decay import TPP_EXPONENT, with_policy
from scalelab.parametrizations.table import Role
from scalelab.recipe import Value
from scalelab.recommend.belief import Belief
from scalelab.recommend.regret import safest
from scalelab.resolve import Setting, moves_with_horizon, settings
from scalelab.spec import RunSpec

POWER_LINES_FIT = "Power Lines (arXiv:2505.13738) eq. 4"
MATRICES = (Role.HIDDEN, Role.EXPERT)
RATIOS = {"tokens": "tokens", "batch_tokens": "batch"}  # of `Ratios`, by scale


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
        moved = _moved(spec, proxy, varied)
        scale = horizon.batch_tokens / (spec.hparams.lr * horizon.tokens) / moved
        without = "" if moved == 1 else f", less the table's ×{moved:.3g} on lr·λ of the matrices for this horizon"
        low, high = np.exp(-np.quantile(belief.best("tau", {}), [0.975, 0.025])) * scale
        decay = scale * math.exp(-log_tau)
        value = Value(
            name="weight_decay", value=decay, low=float(low), high=float(high), source="law",
            rests_on="the law of τ of all runs in one likelihood: λ = B/(η τ D) with τ"
            f" {math.exp(log_tau):.3g} runs at the base's values{without}",
        )  # fmt: skip
        return Decay(spec=_with_decay(spec, decay), value=value, log_tau=log_tau)
    policy = f"policy {spec.weight_decay_policy!r}"
    if own == 0:
        return _kept(spec, "proxies", "as the proxies had it: none; no law of it")
    tokens, batch = (
        1.0 if name in varied else getattr(horizon, name) / getattr(proxy.horizon, name)
        for name in ("tokens", "batch_tokens")
    )
    if abs(horizon.tokens - proxy.horizon.tokens) <= horizon.batch_tokens / 2:
        tokens = 1.0  # as long, but for whole steps
    if (tokens, batch) == (1.0, 1.0):
        return _kept(spec, "theory", f"the proxies', moved with shape by the table's {policy}; no decay was swept")
    if moves_with_horizon(proxy):
        return _kept(spec, "theory", f"the proxies', moved with shape and horizon by the table's {policy}")
    rate = batch ** priors.exponent("lr", "batch_tokens").mean if belief.unmeasured else 1.0
    params = count_params(spec).non_embedding / count_params(proxy).non_embedding
    tau = 1.0 if tokens == 1 else (tokens / params) ** float(TPP_EXPONENT)
    decay = own * batch / (rate * tokens * tau)
    value = Value(
        name="weight_decay", value=decay, source="published",
        rests_on=f"the proxies' {own:g}, moved with shape by the table's {policy}, which is silent on the horizon: with"
        f" tokens ×{tokens:.3g}, parameters ×{params:.3g} and batch ×{batch:.3g} τ in runs goes ×{tau:.3g} by"
        f" {POWER_LINES_FIT}; no decay was swept",
    )  # fmt: skip
    return Decay(spec=_with_decay(spec, decay), value=value, log_tau=None)


def time_scale(spec: RunSpec, decay: Value) -> Value | None:
    """τ of the matrices in the blocks, as a share of the run; None where they are not decayed."""
    found = _matrices(spec)
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


def _matrices(spec: RunSpec) -> list[Setting]:
    return [s for s in settings(spec) if s.tensor.role in MATRICES and s.weight_decay > 0]


def _moved(spec: RunSpec, proxy: RunSpec, varied: Collection[str]) -> float:
    """By what the rules multiply lr·λ of the matrices for the target's horizon against the proxies'.

    Scales that these varied do not count: the law is one of base values and has seen their factors there.
    """
    held = {ratio: getattr(proxy.scales, ratio) for name, ratio in RATIOS.items() if name not in varied}
    for setting in _matrices(replace(spec, hparams=replace(spec.hparams, weight_decay=1.0))):
        role, here = setting.tensor.role, setting.tensor.ratios(spec.scales)
        rule = with_policy(table(spec.parametrization).rule(role, setting.family), role, spec.weight_decay_policy)
        if rule is not None:
            target, proxies = (rule.lr(at) * rule.weight_decay(at) for at in (here, replace(here, **held)))
            return target / proxies
    return 1.0


def _kept(spec: RunSpec, source: str, why: str) -> Decay:
    value = Value(name="weight_decay", value=spec.hparams.weight_decay, source=source, rests_on=why)
    return Decay(spec=spec, value=value, log_tau=None)


def _with_decay(spec: RunSpec, decay: float) -> RunSpec:
    return replace(spec, hparams=replace(spec.hparams, weight_decay=decay))
