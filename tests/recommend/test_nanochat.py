"""nanochat projects its own hyperparameters from a reference of depth 12: a public oracle for what a table, a horizon
and a batch law do here. The formulas are those of karpathy/nanochat 92d63d4, scripts/base_train.py and nanochat/gpt.py,
written again; expected batches are the table of its dev/LOG.md, 2026-02-05.

What one `RunSpec` cannot hold: a base rate for each group (embedding 0.3, unembedding 0.008, matrices 0.02: there is
one, and one factor for all that Muon hands over, so two specs are used), a weight decay, betas for each group, the
momentum's and the weight decay's schedules, and parameters that the proxy has not (gates of value embeddings, 4e-6 of
all). Batches are rounded to powers of two there; here a batch is what is asked for.
"""

import math
from fractions import Fraction

import pytest

from scalelab.laws import published
from scalelab.models import count_params
from scalelab.parametrizations import POLICIES, TABLES, Family, Parametrization, Role, Rule, Site
from scalelab.resolve import settings
from scalelab.scale import ONE, Power, Ratios
from scalelab.shape import Architecture, Shape
from scalelab.spec import DataSpec, Horizon, Hparams, RunSpec

HALF = Fraction(1, 2)
RATIO, B_REF, REFERENCE = 12, 2**19, 12
VOCAB, HEAD_DIM, CONTEXT = 32768, 128, 2048
EMBEDDING, UNEMBEDDING, MATRIX, DECAY = 0.3, 0.008, 0.02, 0.28
DEPTHS = (8, 12, 20, 26, 32)

# --- nanochat's own words ---------------------------------------------------------------------------------------------


def model_dim(depth: int) -> int:
    """build_model_meta: depth × aspect ratio 64, up to whole heads."""
    return (depth * 64 + HEAD_DIM - 1) // HEAD_DIM * HEAD_DIM


def scaling_params(depth: int) -> int:
    """num_scaling_params: the matrices of the blocks, every other one with gates of value embeddings, and lm_head."""
    dim = model_dim(depth)
    gates = sum(layer % 2 == (depth - 1) % 2 for layer in range(depth)) * 12 * (dim // HEAD_DIM)
    return depth * 12 * dim**2 + gates + VOCAB * dim


def target_tokens(depth: int) -> int:
    return int(RATIO * scaling_params(depth))


def total_batch_size(depth: int) -> int:
    predicted = B_REF * (target_tokens(depth) / (RATIO * scaling_params(REFERENCE))) ** 0.383
    return int(2 ** round(math.log2(predicted)))


def batch_lr_scale(depth: int) -> float:
    return float((total_batch_size(depth) / B_REF) ** 0.5)


def dmodel_lr_scale(depth: int) -> float:
    return float((model_dim(depth) / 768) ** -0.5)


def weight_decay_scaled(depth: int) -> float:
    d_ref = RATIO * scaling_params(REFERENCE)
    return DECAY * math.sqrt(total_batch_size(depth) / B_REF) * (d_ref / target_tokens(depth))


def lr_multiplier(it: int, steps: int) -> float:
    warmdown = round(0.65 * steps)
    if it < 40:
        return (it + 1) / 40
    if it <= steps - warmdown:
        return 1.0
    progress = (steps - it) / warmdown
    return progress * 1.0 + (1 - progress) * 0.05


# --- the same with scalelab's objects ---------------------------------------------------------------------------------


def plain(lr: Power, *, init: Power = ONE, weight_decay: Power = ONE) -> Rule:
    return Rule(multiplier=ONE, init=init, lr=lr, weight_decay=weight_decay, eps=ONE)


NANOCHAT = Parametrization(
    name="nanochat",
    title="nanochat: √batch for every rate, 1/√width for AdamW's, T_epoch for Muon's weight decay",
    source="karpathy/nanochat 92d63d4 scripts/base_train.py, nanochat/gpt.py",
    rules={
        (Role.EMBEDDING, Family.ADAM): plain(Power(batch=HALF, fan_out=-HALF)),
        (Role.READOUT, Family.ADAM): plain(Power(batch=HALF, fan_in=-HALF)),
        (Role.SCALAR, Family.ADAM): plain(Power(batch=HALF)),
        (Role.HIDDEN, Family.MUON): plain(
            Power(batch=HALF), init=Power(fan_in=-HALF), weight_decay=Power(batch=HALF, tokens=-1)
        ),
    },
    sites={Site.ATTENTION: Power(head_dim=-HALF), Site.RESIDUAL: ONE},
    transfers=(),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "nanochat", NANOCHAT)


def shape(depth: int) -> Shape:
    width = model_dim(depth)
    heads = width // HEAD_DIM
    return Shape(
        vocab=VOCAB, context=CONTEXT, width=width, depth=depth, heads=heads, kv_heads=heads, ffn=4 * width
    )  # fmt: skip


def spec(depth: int, *, handed: float = EMBEDDING) -> RunSpec:
    batch = total_batch_size(depth)
    return RunSpec(
        parametrization="nanochat", optimizer="muon", shape=shape(depth), base=shape(REFERENCE),
        architecture=Architecture(mlp="squared_relu", qk_norm=True, norm_gains="none"),
        hparams=Hparams(lr=MATRIX, weight_decay=DECAY, handed_lr_factor=handed / MATRIX, momentum=0.95,
                        embedding_std=0.8),
        horizon=Horizon(tokens=target_tokens(depth) // batch * batch, batch_tokens=batch, schedule="wsd",
                        warmup_fraction=0.0, warmup_tokens=40 * batch, decay_fraction=0.65, final_lr_ratio=0.05),
        base_tokens=target_tokens(REFERENCE), base_batch_tokens=B_REF,
        data=DataSpec(name="external", sha256="none", vocab=VOCAB, bytes_per_token=None, validation_tokens=0), seed=0,
    )  # fmt: skip


def of(role: Role, run: RunSpec) -> tuple[float, float, float]:
    """The learning rate, weight decay and init of a role, which all its tensors share (of init: those fed by width)."""
    found = [s for s in settings(run) if s.tensor.role is role]
    assert len({(s.lr, s.weight_decay) for s in found}) == 1
    return found[0].lr, found[0].weight_decay, found[0].init_std


@pytest.mark.parametrize("depth", DEPTHS)
def test_parameters_are_counted_as_there(depth: int) -> None:
    counts = count_params(spec(depth))
    assert counts.matrices + counts.readout == pytest.approx(scaling_params(depth), rel=1e-5)  # gates aside
    assert counts.matrices + counts.readout < scaling_params(depth)


def test_batches_are_those_of_its_log() -> None:
    """dev/LOG.md: d8 2^18, d10-16 2^19, d18-26 2^20, d32-50 2^21."""
    log = {8: 2**18, 10: 2**19, 12: 2**19, 16: 2**19, 18: 2**20, 20: 2**20, 26: 2**20, 32: 2**21, 50: 2**21}
    assert {depth: total_batch_size(depth) for depth in log} == log
    law, rule = published("power_lines_batch/power_lines"), Power(tokens=Fraction(383, 1000))
    for depth, batch in log.items():
        counts = count_params(spec(depth))
        tokens, base = RATIO * (counts.matrices + counts.readout), target_tokens(REFERENCE)
        projected = B_REF * law.predict(tokens=tokens) / law.predict(tokens=base)
        assert 2 ** round(math.log2(projected)) == batch
        assert rule(Ratios(tokens=Fraction(tokens, base))) * B_REF == pytest.approx(projected, rel=1e-12)


@pytest.mark.parametrize("depth", DEPTHS)
def test_rates_are_projected_as_there(depth: int) -> None:
    width, batch = dmodel_lr_scale(depth), batch_lr_scale(depth)
    assert of(Role.EMBEDDING, spec(depth))[0] == pytest.approx(EMBEDDING * batch * width, rel=1e-12)
    assert of(Role.READOUT, spec(depth, handed=UNEMBEDDING))[0] == pytest.approx(UNEMBEDDING * batch * width, rel=1e-12)
    assert of(Role.HIDDEN, spec(depth))[0] == pytest.approx(MATRIX * batch, rel=1e-12)


@pytest.mark.parametrize("depth", DEPTHS)
def test_weight_decay_is_projected_as_there(depth: int) -> None:
    run = spec(depth)
    whole = Ratios(tokens=Fraction(target_tokens(depth), target_tokens(REFERENCE)), batch=run.scales.batch)
    cell = NANOCHAT.rule(Role.HIDDEN, Family.MUON).weight_decay
    assert DECAY * cell(whole) == pytest.approx(weight_decay_scaled(depth), rel=1e-12)
    # A run's tokens are whole steps, nanochat's decay is of the tokens before they are.
    assert of(Role.HIDDEN, run)[1] == pytest.approx(weight_decay_scaled(depth), rel=1 / run.horizon.steps)
    assert of(Role.EMBEDDING, run)[1] == DECAY  # AdamW's is not scaled


def test_its_weight_decay_is_the_policy_of_a_constant_time_scale() -> None:
    """arXiv:2405.13698, which it cites: B/(lr·λ·D) constant."""
    rule = NANOCHAT.rule(Role.HIDDEN, Family.MUON)
    assert POLICIES["ema"].cell(Role.HIDDEN, rule) == rule.weight_decay
    for depth in DEPTHS:
        run = spec(depth)
        lr, decay, _ = of(Role.HIDDEN, run)
        tau = run.horizon.batch_tokens / (lr * decay * run.horizon.tokens)
        assert tau == pytest.approx(B_REF / (MATRIX * DECAY * target_tokens(REFERENCE)), rel=1e-12)


@pytest.mark.parametrize("depth", DEPTHS)
def test_starts_and_schedule_are_as_there(depth: int) -> None:
    run = spec(depth)
    assert of(Role.HIDDEN, run)[2] == pytest.approx(model_dim(depth) ** -0.5)
    assert of(Role.EMBEDDING, run)[2] == 0.8
    steps = target_tokens(depth) // total_batch_size(depth)
    assert run.horizon.steps == steps
    for it in range(0, steps, 37):
        assert run.horizon.lr_factor(it) == pytest.approx(lr_multiplier(it, steps), abs=2 / (0.65 * steps))


def test_another_rule_would_show() -> None:
    """The oracle tells nanochat's rules from their neighbours: muP's 1/width, a batch law of Step Law's exponent."""
    width = model_dim(32) / model_dim(12)
    mup = TABLES["mup"].rule(Role.READOUT, Family.ADAM).lr(Ratios(fan_in=Fraction(model_dim(32), model_dim(12))))
    assert mup != pytest.approx(width**-0.5, rel=0.05)
    steeper = Power(tokens=Fraction(571, 1000))(Ratios(tokens=Fraction(target_tokens(20), target_tokens(12))))
    assert 2 ** round(math.log2(B_REF * steeper)) == total_batch_size(20)  # a power of two is coarse …
    steeper = Power(tokens=Fraction(571, 1000))(Ratios(tokens=Fraction(target_tokens(26), target_tokens(12))))
    assert 2 ** round(math.log2(B_REF * steeper)) != total_batch_size(26)  # … and yet tells them apart
