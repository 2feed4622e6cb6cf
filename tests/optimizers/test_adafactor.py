"""Adafactor against torch's where they must agree, and the three places where they part."""

import pytest
import torch

from scalelab.errors import Refused
from scalelab.optimizers.adafactor import Adafactor
from tests.optimizers.stepping import Make, gradients, moved, randn, stepped


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5,)])
@pytest.mark.parametrize("d", [1.0, 2.0])
def test_adafactor_is_torchs_below_the_relative_step(shape: tuple[int, ...], d: float) -> None:
    start, given = randn(*shape), [g * 2.0**t for t, g in enumerate(gradients(*shape, steps=10))]
    options = {"lr": 0.1, "weight_decay": 0.3, "d": d}
    theirs = stepped(torch.optim.Adafactor, start, given, **options)
    torch.testing.assert_close(stepped(Adafactor, start, given, **options), theirs, rtol=1e-10, atol=0)


def test_adafactor_is_its_formula() -> None:
    start, given = randn(6, 4), gradients(6, 4)
    p, row, col = start.clone(), torch.zeros(6, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for t, g in enumerate(given, start=1):
        keep = 1 - t**-0.8
        row, col = keep * row + (1 - keep) * (g**2).sum(1), keep * col + (1 - keep) * (g**2).sum(0)
        update = g / (torch.outer(row, col) / row.sum()).sqrt()
        update = update / max(1.0, update.square().mean().sqrt().item())
        p = p * (1 - 2.0 * 0.1) - 2.0 * update  # a rate far above 1/√t
    found = stepped(Adafactor, start, given, lr=2.0, weight_decay=0.1, scale_parameter=False)
    torch.testing.assert_close(found, p, rtol=1e-11, atol=0)


def test_the_rate_is_what_the_group_carries() -> None:
    given = [randn(6, 4)] * 100

    def last(make: Make, lr: float) -> float:
        p = torch.nn.Parameter(torch.ones(6, 4, dtype=torch.float64))
        optimizer = make([p], lr=lr)
        for g in given:
            p.data.fill_(1.0)  # the same RMS(p) before every step
            p.grad = g.clone()
            optimizer.step()
        return float((p.detach() - 1).norm())

    assert last(Adafactor, 0.4) == pytest.approx(4 * last(Adafactor, 0.1), rel=1e-12)
    assert last(torch.optim.Adafactor, 0.4) == pytest.approx(last(torch.optim.Adafactor, 0.1), rel=1e-12)  # both 1/√100


@pytest.mark.parametrize("scale", [2.0**-17, 2.0**-40])
def test_small_gradients_are_seen(scale: float) -> None:
    given = gradients(6, 4, dtype=torch.float32)
    small = [scale * g for g in given]
    torch.testing.assert_close(moved(Adafactor, small, d=100.0), moved(Adafactor, given, d=100.0), rtol=1e-4, atol=0)
    theirs = moved(torch.optim.Adafactor, given, d=100.0)
    assert not torch.allclose(moved(torch.optim.Adafactor, small, d=100.0), theirs, rtol=0.5)


def test_parameter_scaling_multiplies_and_has_a_floor() -> None:
    g = gradients(6, 4, steps=1)
    plain = moved(Adafactor, g, scale_parameter=False)
    torch.testing.assert_close(moved(Adafactor, g), 1e-3 * plain)
    start = torch.full_like(plain, 3.0)
    torch.testing.assert_close(stepped(Adafactor, start, g) - start, 3.0 * plain)


def test_the_rms_of_an_update_is_clipped() -> None:
    given = [*gradients(6, 4, steps=5), 1e6 * randn(6, 4)]
    p = moved(Adafactor, given, lr=1.0, scale_parameter=False) - moved(
        Adafactor, given[:-1], lr=1.0, scale_parameter=False
    )
    assert p.square().mean().sqrt().item() == pytest.approx(1.0)


def test_an_increasing_decay_is_refused() -> None:
    with pytest.raises(Refused, match=r"beta2_decay is 0\.8"):
        Adafactor([torch.nn.Parameter(randn(4))], beta2_decay=0.8)
