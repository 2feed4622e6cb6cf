"""Complete(d)P (arXiv:2512.22382) Table 1: its numbers, from width 64 and 2 layers to width 256 and 16 layers."""

import math

import pytest

from scalelab.parametrizations.decay import to_independent
from scalelab.resolve import Setting, betas, multipliers, settings
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.conftest import make_spec

WIDER = {"width": 256, "depth": 16, "base_width": 64, "base_depth": 2}  # m = 4, L = 8, heads of 16 channels in both
TOKENS, BATCH = 640, 64
QUERY, BIAS, GAIN = "blocks.0.attention.query.weight", "blocks.0.attention.query.bias", "blocks.0.attention.norm.gain"


def resolved(name: str = "completed_p", **given: object) -> tuple[RunSpec, dict[str, Setting]]:
    hparams = {"lr": 1.0, "weight_decay": 1.0, "eps": 1.0, "beta1": 0.9, "beta2": 0.95}
    architecture = Architecture(biases=True, qk_norm=True)
    spec = make_spec(name, tokens=TOKENS, hparams=hparams, architecture=architecture, **given)  # type: ignore[arg-type]
    return spec, {setting.tensor.name: setting for setting in settings(spec)}


def test_width_and_depth() -> None:
    """α = 1: readout variance 1/16, lr 1/4, λ ×4, ε 1; hidden lr 1/4, λ ×4, ε 1/32; embedding ε 1/4; QK-norm ε 1/8."""
    spec, at = resolved(**WIDER)
    readout, hidden, embedding = at["readout.weight"], at[QUERY], at["embedding.weight"]
    assert multipliers(spec).residual == 1 / 8
    assert (readout.init_std * math.sqrt(64)) ** 2 == 1 / 16
    assert (readout.multiplier, readout.lr, readout.weight_decay, readout.eps) == (1.0, 1 / 4, 4.0, 1.0)
    assert (hidden.init_std * math.sqrt(64)) ** 2 == pytest.approx(1 / 4, rel=1e-12)
    assert (hidden.lr, hidden.weight_decay, hidden.eps) == (1 / 4, 4.0, 1 / 32)
    assert (embedding.lr, embedding.weight_decay, embedding.eps) == (1.0, 1.0, 1 / 4)
    for name in (BIAS, GAIN):
        assert (at[name].lr, at[name].eps) == (1.0, 1 / 32)
    assert (at["blocks.0.attention.query_norm.gain"].lr, at["blocks.0.attention.query_norm.gain"].eps) == (1.0, 1 / 8)


def test_alpha_half() -> None:
    """α = ½: residual 8^-½; hidden lr 8^-½/4, gains and biases 8^-½; ε 8^-½/4."""
    spec, at = resolved("completed_p_half", **WIDER)
    assert multipliers(spec).residual == pytest.approx(8**-0.5)
    assert (at[QUERY].lr, at[QUERY].weight_decay) == pytest.approx((8**-0.5 / 4, 4.0))
    assert [at[name].lr for name in (BIAS, GAIN)] == pytest.approx([8**-0.5] * 2)
    assert [at[name].eps for name in (QUERY, BIAS, GAIN)] == pytest.approx([8**-0.5 / 4] * 3)


def test_the_last_norm_has_an_eps_of_its_own_here() -> None:
    """Table 1 gives "output weight, bias, norm" no factor; the gradient of the last gain falls like 1/m (notes)."""
    _, at = resolved(**WIDER)
    assert (at["norm.gain"].lr, at["norm.gain"].eps) == (1.0, 1 / 4)


def test_batch_and_horizon() -> None:
    """B = 8, D = 32: lr ½, λ ½, ε 2, (1−β) ¼, so β1 .975 and β2 .9875; 4 times the steps; on top of width and depth."""
    horizon = {"base_tokens": TOKENS // 32, "base_batch_tokens": BATCH // 8}
    (spec, at), (_, alone) = resolved(**WIDER, **horizon), resolved(**WIDER)
    for name, setting in at.items():
        assert setting.eps is not None
        assert (setting.lr, setting.weight_decay, setting.eps) == pytest.approx(
            (alone[name].lr / 2, alone[name].weight_decay / 2, (alone[name].eps or 0.0) * 2), rel=1e-12
        )
    assert betas(spec) == pytest.approx((0.975, 0.9875), rel=1e-12)
    base_steps = (TOKENS / 32) / (BATCH / 8)
    assert spec.horizon.steps / base_steps == 4


def test_batch_alone() -> None:
    """κ = 4 (Malladi et al., arXiv:2205.10287): lr 2, torch's λ 2, an independent λ 4, ε ½, (1−β) ×4."""
    spec, at = resolved(width=32, base_tokens=TOKENS, base_batch_tokens=BATCH // 4)
    (hidden, base) = at[QUERY], resolved(width=32)[1][QUERY]
    assert (hidden.lr, hidden.weight_decay, hidden.eps) == (2 * base.lr, 2 * base.weight_decay, (base.eps or 0) / 2)
    independent = [to_independent(setting.weight_decay, setting.lr) for setting in (hidden, base)]
    assert independent[0] == 4 * independent[1]
    assert betas(spec) == pytest.approx((0.6, 0.8), rel=1e-12)


def test_horizon_alone() -> None:
    """16 times the tokens at one batch: lr ¼, and the time scale B/(lr·λ·D) stays."""
    _, at = resolved(width=32, base_tokens=TOKENS // 16, base_batch_tokens=BATCH)
    base = resolved(width=32)[1][QUERY]
    assert at[QUERY].lr == base.lr / 4
    assert at[QUERY].lr * at[QUERY].weight_decay * 16 == base.lr * base.weight_decay


def test_without_a_base_horizon_nothing_of_it_moves() -> None:
    spec, _ = resolved(**WIDER)
    assert betas(spec) == (0.9, 0.95)
    assert (spec.scales.batch, spec.scales.tokens) == (1, 1)
