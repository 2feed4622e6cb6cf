"""Muon's shape factors against torch's, the spectral condition's init, and arXiv:2512.05620's factors per optimizer."""

import math
from fractions import Fraction

import pytest
import torch

from scalelab.parametrizations import TABLES, Family, Parametrization, Role
from scalelab.resolve import Setting, settings
from scalelab.scale import Ratios
from tests.conftest import make_spec

# FFN ratio 4 at the base and 2 at the target: up and down change their aspect, and d_head 8 → 32 grows.
SHAPES = {
    "sizes": {"heads": 8, "kv_heads": 2, "ffn": 512}, "base_sizes": {"heads": 8, "kv_heads": 2, "ffn": 256},
    "width": 256, "base_width": 64,
}  # fmt: skip


def muon(table: str, shape_factor: str) -> list[Setting]:
    hparams = {"lr": 0.02, "weight_decay": 0.1, "shape_factor": shape_factor}
    spec = make_spec(table, optimizer="muon", hparams=hparams, **SHAPES)  # type: ignore[arg-type]
    return [setting for setting in settings(spec) if setting.family is Family.MUON]


def stored(setting: Setting) -> torch.Size:
    return torch.Size(setting.tensor.stored)


@pytest.mark.parametrize(
    ("table", "shape_factor", "theirs"),
    [("muon_original", "original", "original"), ("muon_match_rms", "match_rms", "match_rms_adamw")],
)
def test_muon_is_torchs_at_the_target_as_at_the_base(table: str, shape_factor: str, theirs: str) -> None:
    """The base's factor by `hparams.shape_factor`, the ratio to the target's by the table: torch's at every matrix."""
    adjust = torch.optim._muon._adjust_lr  # type: ignore[attr-defined]
    found = muon(table, shape_factor)
    assert {stored(setting) for setting in found} == {(256, 256), (64, 256), (512, 256), (256, 512)}
    for setting in found:
        assert setting.lr == pytest.approx(adjust(0.02, theirs, stored(setting)), rel=1e-12), setting.tensor.name


def test_muon_under_mup_has_the_spectral_factor() -> None:
    """√(fan_out/fan_in) at every matrix (arXiv:2310.17813; microsoft/dion; Megatron's unit_rms_norm)."""
    for setting in muon("mup", "spectral"):
        fan_out, fan_in = stored(setting)
        assert setting.lr == pytest.approx(0.02 * math.sqrt(fan_out / fan_in), rel=1e-12)


@pytest.mark.parametrize(
    ("table", "shape_factor"), [("muon_original", "original"), ("muon_match_rms", "match_rms"), ("mup", "spectral")]
)
def test_muon_decays_with_the_unadjusted_rate(table: str, shape_factor: str) -> None:
    """torch.optim.Muon, Moonlight (arXiv:2502.16982 eq. 4), dion: p ← p·(1 − lr·λ), whatever the factor."""
    for setting in muon(table, shape_factor):
        assert setting.lr * setting.weight_decay == pytest.approx(0.02 * 0.1, rel=1e-12)


@pytest.mark.parametrize(
    ("fan_out", "fan_in", "original", "spectral", "match_rms"), [(1024, 256, 2, 2, 6.4), (256, 1024, 1, 0.5, 6.4)]
)
def test_published_factors_from_a_square_base(
    fan_out: int, fan_in: int, original: float, spectral: float, match_rms: float
) -> None:
    """A base of 1 × 1 has no factor but Moonlight's 0.2: the tables' cells are then the factors themselves."""
    at = Ratios(fan_out=Fraction(fan_out), fan_in=Fraction(fan_in))
    cells = [TABLES[name].rule(Role.HIDDEN, Family.MUON).lr(at) for name in ("muon_original", "mup", "muon_match_rms")]
    assert cells == pytest.approx([original, spectral, match_rms / 0.2], rel=1e-12)


@pytest.mark.parametrize(("fan_in", "fan_out", "std", "lr"), [(256, 1024, 1 / 16, 4), (1024, 256, 1 / 64, 1 / 4)])
def test_spectral_init_and_rate(fan_in: int, fan_out: int, std: float, lr: float) -> None:
    """arXiv:2310.17813: std min(1, √(out/in))/√in, SGD's rate out/in; muP has that rate.

    Its init is 1/√in: the same in a family of one aspect, where min(1, √(out/in)) is a constant of the base.
    """
    assert min(1, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in) == std
    rule = TABLES["mup"].rule(Role.HIDDEN, Family.SGD)
    at = Ratios(fan_in=Fraction(fan_in), fan_out=Fraction(fan_out))
    assert rule.lr(at) == lr
    assert rule.init(at) * min(1, math.sqrt(fan_out / fan_in)) == std
    wider = Ratios(fan_in=Fraction(4), fan_out=Fraction(4))
    assert rule.init(wider) == 1 / 2  # the spectral init goes by 1/√4 too


TABLE_3 = TABLES["completep"].folded()  # α = 1, as in arXiv:2512.05620, whose readout has no multiplier


@pytest.mark.parametrize(
    ("family", "lr"),
    [
        (Family.ADAM, 1 / 4), (Family.MUON, 1), (Family.SHAMPOO, 1), (Family.SHAMPOO_HALF, 1 / 8), (Family.SOAP, 1),
        (Family.SGD, 8),
    ],
)  # fmt: skip
def test_hidden_factors_of_scaling_matrix_preconditioning(family: Family, lr: float) -> None:
    """arXiv:2512.05620 code: width ×4, depth N = 8. Shampoo: N^(1−2E)·(d_out/d_in)^(1−E), E twice the root."""
    at = Ratios(fan_in=Fraction(4), fan_out=Fraction(4), depth=Fraction(8))
    assert TABLE_3.rule(Role.HIDDEN, family).lr(at) == lr


@pytest.mark.parametrize(
    ("role", "family", "lr"),
    [
        (Role.EMBEDDING, Family.MUON, 2), (Role.EMBEDDING, Family.SGD, 4), (Role.EMBEDDING, Family.ADAM, 1),
        (Role.READOUT, Family.MUON, 1 / 2), (Role.READOUT, Family.ADAM, 1 / 4), (Role.READOUT, Family.SGD, 1 / 4),
    ],
)  # fmt: skip
def test_outer_factors_of_scaling_matrix_preconditioning(role: Role, family: Family, lr: float) -> None:
    """The same, d_in = 1 and d_out = 4 for what reads the input; d_in = 4 and d_out = 1 for what reads out."""
    at = Ratios(fan_in=Fraction(4 if role is Role.READOUT else 1), fan_out=Fraction(1 if role is Role.READOUT else 4))
    assert TABLE_3.rule(role, family).lr(at) == lr


@pytest.mark.parametrize("root", [Fraction(1, 4), Fraction(1, 2)])
def test_shampoo_is_a_function_of_its_root(root: Fraction) -> None:
    """N^(1−2E)·(d_out/d_in)^(1−E) with E = 2·root, at N = 8, d_out = 4, d_in = 9; damping (d_in/d_out)/N²."""
    family = {Fraction(1, 4): Family.SHAMPOO, Fraction(1, 2): Family.SHAMPOO_HALF}[root]
    rule, e = TABLE_3.rule(Role.HIDDEN, family), float(2 * root)
    at = Ratios(fan_in=Fraction(9), fan_out=Fraction(4), depth=Fraction(8))
    assert rule.lr(at) == pytest.approx(8 ** (1 - 2 * e) * (4 / 9) ** (1 - e), rel=1e-12)
    assert rule.eps is not None and rule.eps(at) == pytest.approx((9 / 4) / 8**2, rel=1e-12)


@pytest.mark.parametrize("family", [Family.MUON, Family.SOAP])
def test_eps_of_muon_and_soap(family: Family) -> None:
    """√(d_in/d_out)/N, the norm of a gradient."""
    eps = TABLE_3.rule(Role.HIDDEN, family).eps
    assert eps is not None
    assert eps(Ratios(fan_in=Fraction(9), fan_out=Fraction(4), depth=Fraction(8))) == pytest.approx(1.5 / 8, rel=1e-12)


def test_match_rms_on_an_adam_rate_of_mup_falls_by_the_root_of_the_width() -> None:
    """0.2·√max(n) on an lr that already goes by 1/m leaves 1/√m of a square matrix's spectral step, and not 1."""
    table: Parametrization = TABLES["muon_match_rms"]
    at = Ratios(fan_in=Fraction(4), fan_out=Fraction(4))
    assert table.rule(Role.HIDDEN, Family.MUON).lr(at) * TABLES["mup"].rule(Role.HIDDEN, Family.ADAM).lr(at) == 1 / 2
