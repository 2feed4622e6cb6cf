"""What each weight-decay policy makes of lr·λ, against the numbers of the papers they are named after."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.models import count_params
from scalelab.parametrizations import POLICIES, TABLES, Family, Role
from scalelab.parametrizations.decay import (
    TPP_EXPONENT,
    from_independent,
    to_independent,
    to_unadjusted,
    with_policy,
)
from scalelab.parametrizations.table import UNDECAYED
from scalelab.resolve import settings
from scalelab.scale import Ratios
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.conftest import make_spec

TOKENS, BATCH, M = 640, 64, 4
MATRICES = (Role.EMBEDDING, Role.HIDDEN, Role.READOUT)


def spec_of(policy: str, table: str = "mup", **given: object) -> RunSpec:
    hparams = {"lr": 1.0, "weight_decay": 1.0}
    given = {"width": 32 * M, "tokens": TOKENS, "architecture": Architecture(biases=True), **given}
    return make_spec(table, weight_decay_policy=policy, hparams=hparams, **given)  # type: ignore[arg-type]


def rates(policy: str, table: str = "mup", **given: object) -> dict[Role, tuple[float, float]]:
    """(lr, λ) of each role, of those that a base of 1 and 1 gives."""
    found = {}
    for setting in settings(spec_of(policy, table, **given)):
        found[setting.tensor.role] = (setting.lr, setting.weight_decay)
    return found


def decays(policy: str, table: str = "mup", **given: object) -> dict[Role, float]:
    return {role: lr * weight_decay for role, (lr, weight_decay) in rates(policy, table, **given).items()}


@pytest.mark.parametrize("policy", POLICIES)
def test_vectors_are_not_decayed(policy: str) -> None:
    found = rates(policy)
    assert [found[role][1] for role in found if role in UNDECAYED] == [0.0, 0.0]


def test_robust_layerwise() -> None:
    """arXiv:2510.15262: matrices λ ×√m, so lr·λ ×½ at m = 4; √(η/λ)·m^¾ is kept; vector-like tensors have none."""
    found = rates("root_width")
    lr, weight_decay = found[Role.HIDDEN]
    assert (lr, weight_decay, lr * weight_decay) == (1 / 4, 2.0, 1 / 2)
    assert math.sqrt(lr / weight_decay) * M**0.75 == pytest.approx(1.0, rel=1e-12)
    assert found[Role.EMBEDDING] == found[Role.READOUT] == (1.0, 0.0)


def test_independent() -> None:
    """lr·λ constant (mup 1.0.0 MuAdamW; CompleteP Table 1; u-muP; Lingle): hidden λ ×m."""
    assert rates("independent")[Role.HIDDEN] == (1 / 4, 4.0)
    assert [decays("independent")[role] for role in MATRICES] == [1.0] * 3
    assert rates("independent") == rates("table")  # muP's column here


def test_constant() -> None:
    """TP-V App. B.3, Megatron-LM, nanoGPT-mup: λ constant, so the hidden lr·λ goes by 1/m."""
    assert rates("constant")[Role.HIDDEN] == (1 / 4, 1.0)
    assert decays("constant")[Role.HIDDEN] == 1 / 4


def test_inverse_width() -> None:
    """Qiu et al. (arXiv:2512.05620): an independent λ ∝ 1/width for every tensor, whatever the optimizer."""
    for optimizer in ("adamw", "sgd", "adafactor"):
        found = decays("inverse_width", optimizer=optimizer)
        assert [found[role] for role in MATRICES] == pytest.approx([1 / M] * 3)


def test_ema() -> None:
    """Wang & Aitchison (arXiv:2405.13698): 1/(lr·λ) is a constant share of the run's steps, at every width."""
    for tokens, batch in ((1, 1), (4, 1), (1, 4), (8, 2)):
        given = {"base_tokens": TOKENS // tokens, "base_batch_tokens": BATCH // batch}
        for table in ("mup", "completed_p"):
            found = decays("ema", table, **given)
            assert [found[role] * tokens / batch for role in MATRICES] == pytest.approx([1.0] * 3)


def test_complete_d_p_keeps_that_time_scale_too() -> None:
    """Its λ ∝ √(B/D) with lr ∝ √(B/D): B/(lr·λ·D) stays."""
    found = decays("table", "completed_p", base_tokens=TOKENS // 8, base_batch_tokens=BATCH // 2)
    assert [found[role] * 8 / 2 for role in MATRICES] == pytest.approx([1.0] * 3)


def test_power_lines() -> None:
    """arXiv:2505.13738 eq. 2–4: B/(lr·λ·D) ∝ TPP^-0.527; at fixed N and D, λ ∝ B."""
    assert float(TPP_EXPONENT) == -0.527
    base = {"base_tokens": TOKENS // 8, "base_batch_tokens": BATCH // 2}
    spec = spec_of("power_lines", **base)
    small = replace(spec, shape=spec.base)
    params = count_params(spec).non_embedding / count_params(small).non_embedding
    tau = 2 / (decays("power_lines", **base)[Role.HIDDEN] * 8)
    assert tau == pytest.approx((8 / params) ** -0.527, rel=1e-9)
    twice = decays("power_lines", base_tokens=TOKENS // 8, base_batch_tokens=BATCH // 4)[Role.HIDDEN]
    assert twice == pytest.approx(2 * decays("power_lines", **base)[Role.HIDDEN], rel=1e-12)


def test_more_tokens_a_parameter_want_a_shorter_memory() -> None:
    """The sign of the exponent: τ falls as TPP grows (Power Lines, Fig. 1)."""
    rule = TABLES["mup"].rule(Role.HIDDEN, Family.ADAM)
    decayed = with_policy(rule, Role.HIDDEN, "power_lines")
    assert decayed is not None
    tau = [1 / (rule.lr(at) * decayed.weight_decay(at) * float(at.tokens)) for at in map(of_tokens, (1, 4, 16))]
    assert tau[0] > tau[1] > tau[2]


def of_tokens(tokens: int) -> Ratios:
    return Ratios(tokens=Fraction(tokens))


positive = st.floats(1e-6, 1e3)


@given(weight_decay=positive, lr=positive, unadjusted=positive)
def test_conversions_go_there_and_back(weight_decay: float, lr: float, unadjusted: float) -> None:
    assert from_independent(to_independent(weight_decay, lr), lr) == pytest.approx(weight_decay, rel=1e-12)
    there = to_unadjusted(weight_decay, lr, unadjusted)
    assert to_unadjusted(there, unadjusted, lr) == pytest.approx(weight_decay, rel=1e-12)
    assert there * unadjusted == pytest.approx(weight_decay * lr, rel=1e-12)  # one step decays as much
