"""What every optimizer of the house promises: ordinary torch behaviour, stacks of matrices, and its degree in g."""

import copy
import io
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer

from scalelab.errors import Refused
from scalelab.optimizers.adafactor import Adafactor
from scalelab.optimizers.adam_atan2 import AdamAtan2
from scalelab.optimizers.lion import Lion
from scalelab.optimizers.muon import Muon
from scalelab.optimizers.shampoo import Shampoo
from scalelab.optimizers.soap import SOAP
from tests.optimizers.stepping import EVERY, OF_MATRICES, PER_MATRIX, Make, feed, gradients, moved, randn, stepped


@pytest.mark.parametrize("make", EVERY)
def test_a_saved_state_goes_on_bit_for_bit(make: Make) -> None:
    start, given = randn(6, 4, dtype=torch.float32), gradients(6, 4, steps=25, dtype=torch.float32)
    p = torch.nn.Parameter(start.clone())
    feed(make([p], weight_decay=0.1), p, given)

    first, second = torch.nn.Parameter(start.clone()), torch.nn.Parameter(torch.empty_like(start))
    before = make([first], weight_decay=0.1)
    feed(before, first, given[:13])
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after = make([second])
    after.load_state_dict(torch.load(file, weights_only=True))
    second.data.copy_(first.data)
    feed(after, second, given[13:])
    assert torch.equal(p, second)


@pytest.mark.parametrize("make", EVERY)
def test_groups_keep_their_own_rates_and_decays(make: Make) -> None:
    start, given = randn(6, 4), gradients(6, 4)
    one, two = (torch.nn.Parameter(start.clone()) for _ in range(2))
    groups = [{"params": [one], "lr": 0.02, "weight_decay": 0.5, "names": ["one"]}, {"params": [two], "lr": 0.01}]
    optimizer = make(groups, weight_decay=0.0)
    for g in given:
        one.grad, two.grad = g.clone(), g.clone()
        optimizer.step()
    assert torch.equal(one, stepped(make, start, given, lr=0.02, weight_decay=0.5))
    assert torch.equal(two, stepped(make, start, given, lr=0.01, weight_decay=0.0))


@pytest.mark.parametrize("make", EVERY)
def test_decay_is_decoupled_and_coupled_to_the_rate(make: Make) -> None:
    start, zero = randn(6, 4), torch.zeros(6, 4, dtype=torch.float64)
    steps = 4 if make is SOAP else 3  # its first step only sets the bases
    p = stepped(make, start, [zero] * steps, lr=0.01, weight_decay=0.5)
    torch.testing.assert_close(p, start * (1 - 0.01 * 0.5) ** 3, rtol=1e-14, atol=0)


@pytest.mark.parametrize("make", EVERY)
def test_the_rate_may_be_a_tensor_and_a_closure_may_be_given(make: Make) -> None:
    start, given = randn(6, 4), gradients(6, 4)
    expected = stepped(make, start, given, lr=0.25)
    assert torch.equal(expected, stepped(make, start, given, lr=torch.tensor(0.25)))
    p = torch.nn.Parameter(start.clone())
    optimizer = make([p], lr=0.25)
    for g in given:

        def closure(g: torch.Tensor = g) -> float:
            assert torch.is_grad_enabled()
            p.grad = g.clone()
            return 1.5

        assert optimizer.step(closure) == 1.5
    assert torch.equal(expected, p)


@pytest.mark.parametrize("make", EVERY)
def test_gradients_and_parameters_without_one_are_left_alone(make: Make) -> None:
    g, p, idle = randn(6, 4), torch.nn.Parameter(randn(6, 4)), torch.nn.Parameter(randn(6, 4))
    optimizer = make([p, idle])
    for _ in range(3):
        p.grad = g
        optimizer.step()
    assert torch.equal(g, randn(6, 4)) and torch.equal(idle, randn(6, 4)) and idle not in optimizer.state
    copy.deepcopy(optimizer)


@pytest.mark.parametrize("make", PER_MATRIX)
def test_stacked_matrices_are_matrices_of_their_own(make: Make) -> None:
    shape = (5, 5) if make is SOAP else (6, 4)  # SOAP's basis of a tall gradient's null space is rounding's choice
    start, given = randn(3, *shape), gradients(3, *shape, steps=12)
    given[5][1] = 0.0  # an expert that saw no token
    stacked = stepped(make, start, given)
    for e in range(3):
        alone = stepped(make, start[e], [g[e] for g in given])
        torch.testing.assert_close(stacked[e], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", PER_MATRIX)
def test_convolutions_are_matrices(make: Make) -> None:
    start, given = randn(6, 2, 3, 3), gradients(6, 2, 3, 3)
    flat = stepped(make, start.flatten(1), [g.flatten(1) for g in given])
    assert torch.equal(stepped(make, start, given).flatten(1), flat)
    one = stepped(make, start.flatten(2), [g.flatten(2) for g in given], flatten=True)
    assert torch.equal(one.flatten(1), flat)


@pytest.mark.parametrize("make", OF_MATRICES)
def test_vectors_are_refused(make: Make) -> None:
    with pytest.raises(
        Refused, match=r"^a parameter of shape \(4,\) is not a matrix: give vectors and scalars to Adam$"
    ):
        make([torch.nn.Parameter(randn(4))])


@pytest.mark.parametrize("make", [Shampoo, SOAP])
def test_half_precision_has_no_eigenvectors(make: Make) -> None:
    with pytest.raises(Refused, match="need float32 or float64 parameters, not bfloat16"):
        make([torch.nn.Parameter(randn(4, 4).bfloat16())])


def test_values_that_mean_nothing_are_refused() -> None:
    p = torch.nn.Parameter(randn(4, 4))
    for make in (AdamAtan2, Lion, Shampoo, SOAP):
        with pytest.raises(Refused, match="betas are"):
            make([p], betas=(0.9, 1.0))
    with pytest.raises(Refused, match="momentum is 1"):
        Muon([p], momentum=1.0)
    with pytest.raises(Refused, match="no inverse root without damping"):
        Shampoo([p], eps=0.0)
    with pytest.raises(Refused, match="did you mean 'relative'"):
        Shampoo([p], damping="relativ")
    with pytest.raises(Refused, match="unknown graft 'sgd'"):
        Shampoo([p], graft="sgd")


# The exponent d of an update's size in the scale of the gradients: Δ(s·g) = s^d · Δ(g).
DEGREES: tuple[tuple[int, type[Optimizer], dict[str, Any]], ...] = (
    (1, SGD, {}),
    (0, AdamAtan2, {}),
    (0, Lion, {}),
    (0, Muon, {}),
    (0, Shampoo, {"root": 0.25, "eps": 1e-6}),
    (0, Shampoo, {"root": 0.25, "eps": 1e-30, "damping": "absolute"}),
    (0, Shampoo, {"root": 0.5, "eps": 1e-6, "graft": "adam"}),
    (-1, Shampoo, {"root": 0.5, "eps": 1e-6}),
    (0, SOAP, {"eps": 1e-30, "interval": 2}),
)


@pytest.mark.parametrize(("degree", "make", "options"), DEGREES)
@pytest.mark.parametrize("scale", [2.0**-16, 2.0**7])
def test_degree_in_the_gradient(degree: int, make: Make, options: dict[str, Any], scale: float) -> None:
    given = gradients(6, 6, steps=5)
    update = moved(make, given, lr=0.1, **options)
    scaled = moved(make, [scale * g for g in given], lr=0.1, **options)
    torch.testing.assert_close(scaled, scale**degree * update, rtol=1e-9, atol=0)


@pytest.mark.parametrize("make", EVERY)
def test_a_regression_is_learned(make: Make) -> None:
    x, target = randn(64, 8, seed=2, dtype=torch.float32), randn(4, 8, seed=3, dtype=torch.float32)
    weight = torch.nn.Parameter(0.1 * randn(4, 8, dtype=torch.float32))
    optimizer = make([weight], lr=0.5 if make is Adafactor else 0.05)  # times an RMS of 0.1
    losses = []
    for _ in range(60):
        loss = ((x @ weight.T - x @ target.T) ** 2).mean()
        weight.grad = torch.autograd.grad(loss, weight)[0]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]
