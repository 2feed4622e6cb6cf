"""Muon against torch's, whose rates carry the shape; the published factors; what orthogonalised means."""

import pytest
import torch

from scalelab.errors import Refused
from scalelab.optimizers.factors import SHAPE_FACTORS, effective, shape_factor
from scalelab.optimizers.muon import Muon, orthogonalized
from tests.optimizers.stepping import gradients, moved, randn, stepped

TORCH = {"original": "original", "match_rms": "match_rms_adamw"}


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (32, 32)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torchs(name: str, shape: tuple[int, int], nesterov: bool) -> None:
    start, given = randn(*shape, dtype=torch.float32), gradients(*shape, steps=10, dtype=torch.float32)
    theirs = stepped(
        torch.optim.Muon, start, given, lr=0.02, weight_decay=0.1, nesterov=nesterov, adjust_lr_fn=TORCH[name]
    )
    lr, weight_decay = effective(0.02, 0.1, shape_factor(name, *shape))
    ours = stepped(Muon, start, given, lr=lr, weight_decay=weight_decay, nesterov=nesterov)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_step_is_torchs_bit_for_bit() -> None:
    given = gradients(64, 16, steps=5, dtype=torch.float32)
    theirs = moved(torch.optim.Muon, given, lr=0.02, adjust_lr_fn="original")
    assert torch.equal(moved(Muon, given, lr=0.02 * shape_factor("original", 64, 16)), theirs)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1024, 256), {"none": 1.0, "original": 2.0, "spectral": 2.0, "match_rms": 6.4}),
        ((256, 1024), {"none": 1.0, "original": 1.0, "spectral": 0.5, "match_rms": 6.4}),
    ],
)
def test_factors(shape: tuple[int, int], expected: dict[str, float]) -> None:
    assert {name: shape_factor(name, *shape) for name in SHAPE_FACTORS} == expected


def test_an_unknown_factor_is_refused() -> None:
    with pytest.raises(Refused, match="did you mean 'spectral'"):
        shape_factor("spectrall", 2, 2)


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (3, 32, 32)])
def test_singular_values_are_near_one_and_vectors_stay(shape: tuple[int, ...]) -> None:
    x = randn(*shape)
    found = orthogonalized(x, steps=5, eps=1e-7, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    inside = u.mT @ found @ vh.mT
    values = inside.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.3 and values.max() < 1.25  # the smallest of a square matrix are still on their way up
    torch.testing.assert_close(inside, torch.diag_embed(values), rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(128, 32), (32, 128)])
def test_match_rms_makes_the_rms_of_adamw(shape: tuple[int, int]) -> None:
    update = moved(Muon, gradients(*shape, steps=1), lr=shape_factor("match_rms", *shape))
    assert update.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)  # 0.2 were S' exactly 1


def test_spectral_makes_the_operator_norm_one() -> None:
    for fan_out, fan_in in ((128, 32), (32, 128)):
        update = moved(Muon, gradients(fan_out, fan_in, steps=1), lr=shape_factor("spectral", fan_out, fan_in))
        rms_to_rms = torch.linalg.matrix_norm(update, 2).item() * (fan_in / fan_out) ** 0.5
        assert rms_to_rms == pytest.approx(1.0, abs=0.25)


def test_newton_schulz_may_run_in_another_precision() -> None:
    given = gradients(16, 8, steps=3)
    exact, rough = (moved(Muon, given, lr=1.0, ns_dtype=dtype) for dtype in (torch.float64, torch.bfloat16))
    assert 0 < torch.linalg.norm(exact - rough) < 0.05 * torch.linalg.norm(exact)
