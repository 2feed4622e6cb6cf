"""SOAP: Adam where the basis is the identity, Adam in whatever basis there is, and the authors' order of steps."""

from typing import Any

import pytest
import torch

from scalelab.optimizers.soap import SOAP
from tests.optimizers.stepping import feed, gradients, moved, randn, stepped

ADAM: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8}


def in_bases(left: torch.Tensor, right: torch.Tensor, given: list[torch.Tensor]) -> torch.Tensor:
    """What SOAP makes of gradients in bases that are set and never turned."""
    p = torch.nn.Parameter(torch.zeros_like(given[0]))
    optimizer = SOAP([p], interval=1000, **ADAM)
    feed(optimizer, p, given[:1])
    optimizer.state[p].update(left_basis=left, right_basis=right)
    feed(optimizer, p, given)
    return p.detach()


def test_soap_is_adam_in_the_identity() -> None:
    given = gradients(6, 4)
    found = in_bases(torch.eye(6, dtype=torch.float64), torch.eye(4, dtype=torch.float64), given)
    torch.testing.assert_close(found, moved(torch.optim.Adam, given, **ADAM), rtol=1e-11, atol=0)


def test_soap_is_adam_in_rotated_coordinates() -> None:
    given = gradients(6, 4)
    left, right = (torch.linalg.qr(randn(size, size, seed=7)).Q for size in (6, 4))
    adam = moved(torch.optim.Adam, [left.T @ g @ right for g in given], **ADAM)
    torch.testing.assert_close(in_bases(left, right, given), left @ adam @ right.T, rtol=1e-10, atol=1e-12)


def test_diagonal_gradients_have_the_identity_for_their_basis() -> None:
    given = [torch.diag(torch.arange(1.0, 6.0, dtype=torch.float64) * (1 + 0.1 * t)) for t in range(8)]
    found = moved(SOAP, given, interval=2, **ADAM)
    torch.testing.assert_close(found, moved(torch.optim.Adam, given[1:], **ADAM), rtol=1e-10, atol=0)


def test_the_first_step_moves_nothing() -> None:
    assert torch.equal(stepped(SOAP, randn(6, 4), gradients(6, 4, steps=1), weight_decay=0.5), randn(6, 4))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_bases_stay_orthogonal_and_find_the_eigenvectors(shape: tuple[int, int]) -> None:
    scales = torch.logspace(0, 3, shape[0], base=2, dtype=torch.float64).unsqueeze(-1)
    turn = torch.linalg.qr(randn(shape[0], shape[0], seed=7)).Q
    p = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = SOAP([p], interval=1, betas=(0.9, 0.99))
    feed(optimizer, p, [turn @ (scales * g) for g in gradients(*shape, steps=300)])
    state = optimizer.state[p]
    for side, size in (("left", shape[0]), ("right", shape[1])):
        basis = state[f"{side}_basis"]
        torch.testing.assert_close(basis.T @ basis, torch.eye(size, dtype=p.dtype), rtol=0, atol=1e-12)
    inside = state["left_basis"].T @ state["left"] @ state["left_basis"]
    values = inside.diagonal()
    assert torch.equal(values, values.sort(descending=True).values)
    assert torch.linalg.norm(inside - torch.diag(values)) < 0.01 * torch.linalg.norm(values)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_soap_against_pytorch_optimizer(shape: tuple[int, int]) -> None:
    theirs = pytest.importorskip("pytorch_optimizer", reason="pip install --no-deps pytorch_optimizer==4.1.0")
    given = gradients(*shape, steps=25)
    options = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-16}
    expected = moved(theirs.SOAP, given, precondition_frequency=3, **options)
    # their QR is in float32 whatever the parameters are in
    torch.testing.assert_close(moved(SOAP, given, interval=3, **options), expected, rtol=0, atol=1e-7)
