"""Numbers from the papers and reference implementations, at base width 64 and 2 layers → width 256 and 16 layers."""

import math

import pytest

from scalelab.compare import difference
from scalelab.models.tensors import Tensor
from scalelab.parametrizations import TABLES, Family, Role, Site
from scalelab.resolve import Setting, multipliers, settings
from scalelab.scale import Power, Ratios
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.conftest import make_spec

SIZES = {"heads": 8, "kv_heads": 8}  # d_head 8 → 32: grows with width
BIASED = Architecture(mlp="gelu", biases=True)


def resolved(parametrization: str, optimizer: str = "adamw", **changes: object) -> tuple[RunSpec, dict[str, Setting]]:
    spec = make_spec(
        parametrization, width=256, depth=16, base_width=64, base_depth=2, optimizer=optimizer, sizes=SIZES,
        architecture=BIASED, hparams={"lr": 1.0, "weight_decay": 1.0, "eps": 1e-8, **changes.pop("hparams", {})},  # type: ignore[dict-item]
        **changes,  # type: ignore[arg-type]
    )  # fmt: skip
    return spec, {setting.tensor.name: setting for setting in settings(spec)}


MATRICES = [f"blocks.0.attention.{name}.weight" for name in ("query", "key", "value", "output")]
MATRICES += ["blocks.0.mlp.up.weight", "blocks.0.mlp.down.weight"]
VECTORS = ["blocks.0.mlp.norm.gain", "blocks.0.mlp.up.bias", "norm.gain"]


@pytest.mark.parametrize("table", ["mup", "mup_package"])
def test_mup_adam(table: str) -> None:
    """mup 1.0.0 MuAdamW: hidden lr /4 and weight decay ×4, everything else 1; logits /4."""
    spec, at = resolved(table)
    for name in MATRICES:
        assert (at[name].lr, at[name].weight_decay) == (0.25, 4.0)
    for name in ("embedding.weight", "readout.weight"):
        assert (at[name].lr, at[name].weight_decay) == (1.0, 1.0)
    assert [at[name].lr for name in VECTORS] == [1.0, 1.0, 1.0]
    assert at["readout.weight"].multiplier == 0.25
    assert multipliers(spec).attention == pytest.approx(math.sqrt(8) / 32)  # √d0/d


def test_eps_is_the_papers_in_mup_and_unscaled_in_mup_package() -> None:
    """TP-V App. B.3: ε ×1/m for all parameters; the package leaves ε alone."""
    _, paper = resolved("mup")
    _, package = resolved("mup_package")
    matrices = {name: setting for name, setting in paper.items() if not name.endswith("bias")}
    assert {setting.eps for setting in matrices.values()} == {2.5e-9}
    assert {setting.eps for setting in package.values()} == {1e-8}


@pytest.mark.parametrize("table", ["mup", "mup_package"])
def test_mup_sgd(table: str) -> None:
    """mup 1.0.0 MuSGD: vector-like lr ×4 and weight decay /4, hidden 1 and 1."""
    rules = TABLES[table]
    m = Ratios(fan_in=4, fan_out=4)  # type: ignore[arg-type]
    assert rules.rule(Role.HIDDEN, Family.SGD).lr(m) == rules.rule(Role.HIDDEN, Family.SGD).weight_decay(m) == 1.0
    vector_like = {
        Role.EMBEDDING: Ratios(fan_out=4),  # type: ignore[arg-type]
        Role.GAIN: Ratios(fan_out=4),  # type: ignore[arg-type]
        Role.BIAS: Ratios(fan_out=4),  # type: ignore[arg-type]
        Role.READOUT: Ratios(fan_in=4),  # type: ignore[arg-type]
    }
    for role, ratios in vector_like.items():
        rule = rules.rule(role, Family.SGD)
        assert (rule.lr(ratios), rule.weight_decay(ratios)) == (4.0, 0.25)


def test_each_matrix_uses_its_own_fan_in_and_fan_out() -> None:
    """An FFN of ratio 4 at the base and 8 at the target: SGD up 2.0, down 0.5; Adam up 0.25, down 0.125."""
    changed = {"sizes": {**SIZES, "ffn": 8 * 256}, "base_sizes": {**SIZES, "ffn": 4 * 64}}
    for optimizer, up, down in (("sgd", 2.0, 0.5), ("adamw", 0.25, 0.125)):
        spec = make_spec(
            "mup",
            width=256,
            depth=2,
            base_width=64,
            optimizer=optimizer,
            hparams={"lr": 1.0},
            **changed,  # type: ignore[arg-type]
        )
        at = {setting.tensor.name: setting.lr for setting in settings(spec)}
        assert (at["blocks.1.mlp.up.weight"], at["blocks.1.mlp.down.weight"]) == (up, down)


def test_init_std_of_torch_defaults_under_mup() -> None:
    """nn.Linear's default std 1/√(3·fan_in) at the base, carried to the target as mup does (d_ff 4·width)."""
    _, at = resolved("mup", hparams={"init_gain": 1 / math.sqrt(3)})
    assert at["blocks.0.attention.query.weight"].init_std == pytest.approx(0.03608, abs=5e-6)
    assert at["blocks.0.mlp.down.weight"].init_std == pytest.approx(0.01804, abs=5e-6)
    assert at["readout.weight"].init_std == pytest.approx(0.07217, abs=5e-6)


def test_init_std_of_a_plain_normal_under_mup() -> None:
    """normal_(std=0.02) at the base: hidden 0.01 at m = 4, vector-like 0.02."""
    _, at = resolved("mup", hparams={"init_gain": 0.02 * math.sqrt(64), "embedding_std": 0.02})
    assert at["blocks.0.attention.query.weight"].init_std == pytest.approx(0.01, rel=1e-12)
    assert at["readout.weight"].init_std == pytest.approx(0.02, rel=1e-12)
    assert at["embedding.weight"].init_std == pytest.approx(0.02, rel=1e-12)


def test_completep_alpha_one() -> None:
    """CompleteP Table 1, α = 1: residual 1/8, hidden lr 1/4, LN and bias lr 1, λ ×4, ε 3.125e-10, hidden std ½."""
    spec, at = resolved("completep", hparams={"init_gain": 0.02 * math.sqrt(64)})
    hidden = at["blocks.0.attention.query.weight"]
    assert multipliers(spec).residual == 0.125
    assert (hidden.lr, hidden.weight_decay) == (0.25, 4.0)
    assert hidden.eps == pytest.approx(3.125e-10, rel=1e-12)
    assert hidden.init_std == pytest.approx(0.01, rel=1e-12)
    assert [at[name].lr for name in VECTORS] == [1.0, 1.0, 1.0]
    assert (at["embedding.weight"].lr, at["readout.weight"].lr) == (1.0, 1.0)


def test_completep_alpha_half() -> None:
    """CompleteP Table 1, α = ½: residual .353553, hidden lr .0883883, LN and bias lr .353553, ε 8.83883e-10, λ ×4."""
    spec, at = resolved("completep_half")
    hidden = at["blocks.0.attention.query.weight"]
    assert multipliers(spec).residual == pytest.approx(0.353553, abs=1e-6)
    assert hidden.lr == pytest.approx(0.0883883, abs=1e-7)
    assert hidden.weight_decay == 4.0
    assert hidden.eps == pytest.approx(8.83883e-10, rel=1e-5)
    assert at["blocks.0.mlp.norm.gain"].lr == pytest.approx(0.353553, abs=1e-6)
    assert at["blocks.0.mlp.up.bias"].lr == pytest.approx(0.353553, abs=1e-6)
    assert at["norm.gain"].lr == 1.0  # outside the blocks


def test_depth_mup_is_completep_half_without_its_eps() -> None:
    """Depth-muP: branch .353553, Adam hidden .0883883; SGD hidden has no depth factor."""
    spec, at = resolved("depth_mup")
    assert multipliers(spec).residual == pytest.approx(0.353553, abs=1e-6)
    assert at["blocks.0.attention.query.weight"].lr == pytest.approx(0.0883883, abs=1e-7)
    verdict = difference(TABLES["depth_mup"], TABLES["completep_half"], optimizer="adamw").verdict
    assert verdict == "equal but for eps (adam)"
    _, sgd = resolved("depth_mup", "sgd")
    assert sgd["blocks.0.attention.query.weight"].lr == 1.0


def test_table_8_becomes_table_3_by_folding() -> None:
    """TP-V Table 3: output init variance 1/fan_in² (×1/m² from a fixed base), no multiplier, lr 1/fan_in."""
    table_3 = TABLES["mup"].folded()
    adam, sgd = (table_3.rule(Role.READOUT, family) for family in (Family.ADAM, Family.SGD))
    assert adam.init == sgd.init == Power(fan_in=-1)
    assert adam.lr == sgd.lr == Power(fan_in=-1)
    assert adam.eps == Power()  # the gradient of a folded readout does not shrink
    assert table_3.rule(Role.HIDDEN, Family.ADAM) == TABLES["mup"].rule(Role.HIDDEN, Family.ADAM)


def test_sites_of_sp() -> None:
    assert TABLES["sp"].sites[Site.ATTENTION](Ratios(head_dim=4)) == 0.5  # type: ignore[arg-type]
    assert isinstance(next(iter(settings(make_spec("sp")))).tensor, Tensor)
