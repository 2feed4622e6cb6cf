"""Residual branches of u-muP: published τ, what they promise of the final stream, and the package's whole decoder."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from scalelab.networks import unit_ops as ops
from scalelab.networks.unit_residual import residual_add, residual_split, residual_taus

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its imports are not ours to keep quiet
    package = pytest.importorskip("unit_scaling", reason="pip install --no-deps unit-scaling==0.3.5")

ALPHAS = st.floats(min_value=0.1, max_value=10.0)


@pytest.mark.parametrize(
    ("alphas", "expected"),
    [
        ((1.0, 1.0), (0.7071068, 0.5773503, 0.5, 0.4472136)),
        ((2.0, 1.0), (1.414214, 0.816497, 0.632456, 0.534522)),
        ((1.0, 2.0), (0.894427, 0.333333, 0.632456, 0.267261)),
    ],
)
def test_published_taus_of_two_layers(alphas: tuple[float, float], expected: tuple[float, ...]) -> None:
    assert residual_taus(4, *alphas) == pytest.approx(expected, abs=1e-6)


def test_taus_without_multipliers_have_a_closed_form() -> None:
    assert residual_taus(32) == pytest.approx([1 / math.sqrt(16 + index) for index in range(32)])


@given(layers=st.integers(min_value=1, max_value=64), alpha_res=ALPHAS, alpha_ratio=ALPHAS)
def test_what_the_taus_promise_of_the_final_stream(layers: int, alpha_res: float, alpha_ratio: float) -> None:
    taus = residual_taus(2 * layers, alpha_res, alpha_ratio)
    embedding = math.prod(1 / (1 + tau**2) for tau in taus)
    shares = [tau**2 * embedding * math.prod(1 + t**2 for t in taus[:index]) for index, tau in enumerate(taus)]
    assert embedding + sum(shares) == pytest.approx(1)
    assert shares[0::2] == pytest.approx([shares[0]] * layers)
    assert shares[1::2] == pytest.approx([shares[1]] * layers)
    assert math.sqrt(shares[0] / shares[1]) == pytest.approx(alpha_ratio)
    assert sum(shares) / 2 == pytest.approx(alpha_res**2 * embedding)


@given(layers=st.integers(min_value=1, max_value=8), alpha_res=ALPHAS, alpha_ratio=ALPHAS)
def test_taus_are_those_of_the_package(layers: int, alpha_res: float, alpha_ratio: float) -> None:
    rule = package.core.functional.transformer_residual_scaling_rule(alpha_res, alpha_ratio)
    expected = [rule(index, 2 * layers) for index in range(2 * layers)]
    assert residual_taus(2 * layers, alpha_res, alpha_ratio) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("tau", [0.25, 1.0, 3.0])
def test_a_branch_keeps_the_stream_and_its_own_gradients_at_unit_scale(tau: float) -> None:
    x = torch.randn(512, 256, generator=torch.Generator().manual_seed(0)).requires_grad_()
    w = torch.randn(256, 256, generator=torch.Generator().manual_seed(1)).requires_grad_()
    grad = torch.randn(512, 256, generator=torch.Generator().manual_seed(2))
    branch, skip = residual_split(x, tau)
    y = residual_add(ops.linear(branch, w), skip, tau)
    for found in (y, *torch.autograd.grad(y, (x, w, branch), grad)):
        assert found.std().item() == pytest.approx(1, abs=0.05)


def test_a_tau_for_each_member_is_a_loop_over_members() -> None:
    x_MND, taus = torch.randn(3, 4, 8), torch.tensor([0.5, 1.0, 2.0])
    branch, skip = residual_split(x_MND, taus.view(3, 1, 1))
    together = residual_add(branch.tanh(), skip, taus.view(3, 1, 1))
    for member, tau in enumerate(taus.tolist()):
        branch, skip = residual_split(x_MND[member], tau)
        torch.testing.assert_close(together[member], residual_add(branch.tanh(), skip, tau))


def decoder_loss(ids_BT: Tensor, weights: dict[str, Tensor], layers: int, heads: int) -> Tensor:
    """The package's `TransformerDecoder.loss`, of our operations."""
    taus = iter(residual_taus(2 * layers))
    x_BTD = ops.embedding(ids_BT, weights["embedding.weight"])
    for layer in range(layers):
        w = {name.removeprefix(f"layers.{layer}."): tensor for name, tensor in weights.items()}
        tau = next(taus)
        h, skip = residual_split(x_BTD, tau)
        h = ops.linear(norm(h), w["mhsa.linear_qkv.weight"])
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in h.chunk(3, dim=-1))
        h = ops.linear(ops.sdpa(q, k, v).transpose(1, 2).flatten(-2), w["mhsa.linear_o.weight"])
        x_BTD = residual_add(h, skip, tau)
        tau = next(taus)
        h, skip = residual_split(x_BTD, tau)
        h = norm(h)
        up, gate = (ops.linear(h, w[f"mlp.linear_{name}.weight"], constraint=None) for name in ("1", "gate"))
        h = ops.linear(ops.silu_glu(up, gate), w["mlp.linear_2.weight"], constraint=None)
        x_BTD = residual_add(h, skip, tau)
    logits_BTV = ops.readout(norm(x_BTD), weights["projection.weight"])
    return ops.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten())


def norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


def test_a_decoder_of_these_operations_is_the_one_of_the_package() -> None:
    torch.manual_seed(0)
    theirs = package.TransformerDecoder(hidden_size=24, vocab_size=11, layers=2, heads=3).double()
    ids_BT = torch.randint(11, (3, 16))
    # Not its `loss`, which takes the logits through float32; its norm does that to the mean square, hence 1e-6.
    logits_BTV = theirs(ids_BT)
    expected = package.functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten())
    expected.backward()
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in theirs.named_parameters()}
    loss = decoder_loss(ids_BT, weights, layers=2, heads=3)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for name, weight in theirs.named_parameters():
        mine = weights[name].grad
        assert mine is not None and (mine - weight.grad).norm() <= 1e-6 * weight.grad.norm(), name
