"""The updates of AdamAtan2 and Lion, from their formulas."""

import math

import pytest
import torch

from scalelab.optimizers.adam_atan2 import AdamAtan2
from scalelab.optimizers.lion import Lion
from tests.optimizers.stepping import gradients, moved, randn, stepped


def test_adam_atan2_first_step_is_nearly_the_rate() -> None:
    update = moved(AdamAtan2, [torch.tensor([3.0, -0.001, 0.0], dtype=torch.float64)], lr=0.1)
    expected = 0.1 * 1.27 * math.pi / 4
    assert expected == pytest.approx(0.1 * 0.9974557, abs=1e-8)
    torch.testing.assert_close(update, torch.tensor([-expected, expected, 0.0], dtype=torch.float64))


def test_adam_atan2_does_not_know_the_scale() -> None:
    given = gradients(5, 3)
    update = moved(AdamAtan2, given)
    torch.testing.assert_close(moved(AdamAtan2, [1e-30 * g for g in given]), update, rtol=1e-12, atol=0)


def test_adam_atan2_is_its_formula() -> None:
    start, given = randn(5, 3), gradients(5, 3)
    p, mean, square = start.clone(), torch.zeros(5, 3), torch.zeros(5, 3)
    for t, g in enumerate(given, start=1):
        mean, square = 0.8 * mean + 0.2 * g, 0.95 * square + 0.05 * g**2
        p = p * (1 - 0.01 * 0.3)
        p = p - 0.01 * 1.5 * torch.atan2(mean / (1 - 0.8**t), 2.0 * (square / (1 - 0.95**t)).sqrt())
    found = stepped(AdamAtan2, start, given, lr=0.01, betas=(0.8, 0.95), weight_decay=0.3, a=1.5, b=2.0)
    torch.testing.assert_close(found, p, rtol=1e-12, atol=0)


def test_lion_is_its_formula() -> None:
    start, given = randn(5, 3), gradients(5, 3)
    p, m = start.clone(), torch.zeros(5, 3, dtype=torch.float64)
    for g in given:
        p = p - 0.01 * ((0.9 * m + 0.1 * g).sign() + 0.3 * p)
        m = 0.99 * m + 0.01 * g
    torch.testing.assert_close(stepped(Lion, start, given, lr=0.01, weight_decay=0.3), p, rtol=1e-12, atol=0)


def test_lion_against_pytorch_optimizer() -> None:
    theirs = pytest.importorskip("pytorch_optimizer", reason="pip install --no-deps pytorch_optimizer==4.1.0")
    start, given = randn(5, 3), gradients(5, 3, steps=20)
    options = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.3}
    torch.testing.assert_close(
        stepped(Lion, start, given, **options), stepped(theirs.Lion, start, given, **options), rtol=1e-13, atol=0
    )
