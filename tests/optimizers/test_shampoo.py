"""Shampoo against its formula in float64, and the exact orthogonalisation that its first step is."""

from typing import Any

import pytest
import torch

from scalelab.optimizers.shampoo import Shampoo, inverse_root
from tests.optimizers.stepping import gradients, moved, randn, stepped


def power(matrix: torch.Tensor, exponent: float) -> torch.Tensor:
    """A power of a symmetric matrix, through its singular values rather than its eigenvalues."""
    u, s, vh = torch.linalg.svd(matrix)
    found: torch.Tensor = u @ torch.diag(s**exponent) @ vh
    return found


def formula(start: torch.Tensor, given: list[torch.Tensor], *, root: float, eps: float, damping: str) -> torch.Tensor:
    p, (m, n) = start.clone(), start.shape
    mean, left, right = torch.zeros_like(p), p.new_zeros(m, m), p.new_zeros(n, n)
    for t, g in enumerate(given, start=1):
        mean, left, right = 0.9 * mean + 0.1 * g, 0.95 * left + 0.05 * g @ g.T, 0.95 * right + 0.05 * g.T @ g
        roots = []
        for factor in (left / (1 - 0.95**t), right / (1 - 0.95**t)):
            top = torch.linalg.matrix_norm(factor, 2) if damping == "relative" else 1.0
            roots.append(power(factor + eps * top * torch.eye(len(factor), dtype=p.dtype), -root))
        p = p * (1 - 0.01 * 0.3) - 0.01 * roots[0] @ (mean / (1 - 0.9**t)) @ roots[1]
    return p


@pytest.mark.parametrize("root", [0.25, 0.5])
@pytest.mark.parametrize("damping", ["absolute", "relative"])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_shampoo_is_its_formula(root: float, damping: str, shape: tuple[int, int]) -> None:
    start, given = randn(*shape), gradients(*shape, steps=6)
    options: dict[str, Any] = {"root": root, "eps": 1e-3, "damping": damping}
    found = stepped(Shampoo, start, given, lr=0.01, betas=(0.9, 0.95), weight_decay=0.3, **options)
    torch.testing.assert_close(found, formula(start, given, **options), rtol=1e-9, atol=1e-11)


def test_float32_is_close_to_float64() -> None:
    given = gradients(16, 8, steps=10)
    exact, single = moved(Shampoo, given, lr=0.1), moved(Shampoo, [g.float() for g in given], lr=0.1)
    assert torch.linalg.norm(single - exact) < 1e-3 * torch.linalg.norm(exact)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_the_first_step_orthogonalises(shape: tuple[int, int]) -> None:
    g = randn(*shape)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    torch.testing.assert_close(moved(Shampoo, [g], lr=1.0, eps=1e-14), -u @ vh, rtol=0, atol=1e-6)


@pytest.mark.parametrize("damping", ["absolute", "relative"])
def test_inverse_roots_are_positive_definite(damping: str) -> None:
    g = randn(3, 6, 2)  # of rank 2: four eigenvalues are zero, some of them below it by rounding
    found = inverse_root(g @ g.mT, 0.25, 1e-6, damping)
    torch.testing.assert_close(found, found.mT)
    assert torch.linalg.eigvalsh(found).min() > 0
    damped = g @ g.mT + 1e-6 * torch.eye(6, dtype=g.dtype) * (
        torch.linalg.matrix_norm(g, 2, keepdim=True) ** 2 if damping == "relative" else 1.0
    )
    identity = torch.linalg.matrix_power(found, 4) @ damped
    torch.testing.assert_close(identity, torch.eye(6, dtype=g.dtype).expand(3, 6, 6), rtol=0, atol=1e-6)


def test_a_zero_gradient_moves_nothing() -> None:
    for root in (0.25, 0.5):
        assert torch.equal(moved(Shampoo, [torch.zeros(4, 4)] * 2, root=root), torch.zeros(4, 4))


def test_heavy_damping_leaves_the_momentum() -> None:
    given = gradients(6, 4)
    update = moved(Shampoo, given, lr=1e6, root=0.5, eps=1e6, damping="absolute")
    mean, plain = torch.zeros_like(given[0]), torch.zeros_like(given[0])
    for t, g in enumerate(given, start=1):
        mean = 0.9 * mean + 0.1 * g
        plain = plain - mean / (1 - 0.9**t)
    torch.testing.assert_close(update, plain, rtol=1e-4, atol=1e-4)


def test_roots_are_kept_for_an_interval() -> None:
    given = gradients(6, 4, steps=3)
    p = torch.nn.Parameter(torch.zeros_like(given[0]))
    optimizer = Shampoo([p], interval=2)
    roots = []
    for g in given:
        p.grad = g
        optimizer.step()
        roots.append(optimizer.state[p]["left_root"])
    assert torch.equal(roots[0], roots[1]) and not torch.equal(roots[1], roots[2])


def test_a_graft_has_the_norm_of_adam() -> None:
    g = gradients(3, 6, 4, steps=1)
    adam = torch.linalg.matrix_norm(moved(torch.optim.Adam, g, lr=0.1, eps=0.0))
    plain, grafted = moved(Shampoo, g, lr=0.1), moved(Shampoo, g, lr=0.1, graft="adam")
    torch.testing.assert_close(torch.linalg.matrix_norm(grafted), adam)
    torch.testing.assert_close(grafted / adam[:, None, None], plain / torch.linalg.matrix_norm(plain, keepdim=True))
