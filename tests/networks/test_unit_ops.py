"""Unit-scaled ops: the `unit_scaling` package as the oracle, unit scale measured, and what the package cannot do."""

import copy
import math
import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scalelab.networks import unit_ops as ops

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its imports are not ours to keep quiet
    package = pytest.importorskip("unit_scaling.functional", reason="pip install --no-deps unit-scaling==0.3.5")

Op = Callable[..., Tensor]
QKV = ((2, 4, 16, 8),) * 3
IDS = torch.arange(40) % 7


def heads_repeated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Grouped heads as the package can be made to do them: keys and values copied to each head of their group."""
    k, v = (t.repeat_interleave(2, dim=-3) for t in (k, v))
    return package.scaled_dot_product_attention(q, k, v, is_causal=True)


ORACLE: dict[str, tuple[Op, Op, tuple[tuple[int, ...], ...]]] = {
    "linear": (ops.linear, partial(package.linear, bias=None), ((3, 5, 12), (7, 12))),
    "linear, untied": (
        partial(ops.linear, constraint=None),
        partial(package.linear, bias=None, constraint=None),
        ((3, 5, 12), (7, 12)),
    ),
    "readout": (ops.readout, partial(package.linear_readout, bias=None), ((3, 5, 12), (7, 12))),
    "embedding": (partial(ops.embedding, IDS), partial(package.embedding, IDS), ((7, 12),)),
    "grouped heads": (ops.sdpa, heads_repeated, (QKV[0], (2, 2, 16, 8), (2, 2, 16, 8))),
}
for m in (0.3, 1.0, 4.0):
    ORACLE |= {
        f"silu_glu, {m}": (partial(ops.silu_glu, mult=m), partial(package.silu_glu, mult=m), ((9, 12), (9, 12))),
        f"gelu, {m}": (partial(ops.gelu, mult=m), partial(package.gelu, mult=m), ((9, 12),)),
        f"softmax, {m}": (partial(ops.softmax, mult=m), partial(package.softmax, dim=-1, mult=m), ((9, 12),)),
        f"cross_entropy, {m}": (
            partial(ops.cross_entropy, targets=IDS, mult=m),
            partial(package.cross_entropy, target=IDS, mult=m),
            ((40, 7),),
        ),
    }
    for causal in (True, False):
        theirs = partial(package.scaled_dot_product_attention, is_causal=causal, mult=m)
        ORACLE[f"sdpa, {m}, {causal}"] = (partial(ops.sdpa, mult=m, causal=causal), theirs, QKV)


def evaluate(op: Op, inputs: list[Tensor]) -> list[Tensor]:
    """The output of an op and its gradients to every input, for one fixed random gradient of the output."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = op(*inputs)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return [y.detach(), *torch.autograd.grad(y, inputs, grad)]


def normal(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("name", ORACLE)
def test_values_and_gradients_are_those_of_the_package(name: str, dtype: torch.dtype, tolerance: float) -> None:
    ours, theirs, shapes = ORACLE[name]
    inputs = normal(*shapes, dtype=dtype)
    for mine, expected in zip(evaluate(ours, inputs), evaluate(theirs, inputs), strict=True):
        assert (mine - expected).norm() <= tolerance * expected.norm()


def test_published_scales() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert ops.silu_glu(one, one).item() / F.silu(one).item() == pytest.approx(1.681793, abs=1e-6)
    assert ops.gelu(one).item() / F.gelu(one).item() == pytest.approx(1.766783, abs=1e-6)
    assert ops.relu(one).item() == pytest.approx(math.sqrt(2 / (1 - 1 / math.pi)))
    assert ops.softmax(torch.zeros(64)).sum().item() == pytest.approx(42.22425, rel=1e-6)
    constant = torch.ones(1, 1, 128, 64)
    assert ops.sdpa(constant, constant, constant).mean().item() == pytest.approx(5.103617, rel=1e-6)
    logits = torch.zeros(1, 64, requires_grad=True)
    ops.cross_entropy(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1].item() * 64 == pytest.approx(8.063242, rel=1e-6)


def test_relu_is_the_sharp_limit_of_gelu() -> None:
    (x,) = normal((1000,))
    torch.testing.assert_close(ops.relu(x), ops.gelu(x, mult=1e4), rtol=1e-5, atol=1e-4)


# Expected rms of the output and of the gradients to each input, for unit normal inputs and output gradient.
UNIT: dict[str, tuple[Op, tuple[tuple[int, ...], ...], tuple[float, ...]]] = {
    "linear": (ops.linear, ((512, 256), (1024, 256)), (1, 2, 1)),  # a true gradient to x: √(O/I)
    "linear, untied": (partial(ops.linear, constraint=None), ((512, 256), (1024, 256)), (1, 1, 1)),
    "readout": (ops.readout, ((512, 256), (64, 256)), (1 / 16, 1, 1)),
    "embedding": (partial(ops.embedding, torch.arange(4096) % 64), ((64, 128),), (1, 1)),
    "silu_glu": (ops.silu_glu, ((512, 512), (512, 512)), (1, 1, 1)),
    "gelu": (ops.gelu, ((512, 512),), (1.15, 1.19)),  # std 1.04: the mean is not 0
    "relu": (ops.relu, ((512, 512),), (1.21, 1.21)),  # std 1.00
    "softmax": (ops.softmax, ((4096, 64),), (1, 1)),
    "sdpa": (ops.sdpa, ((8, 4, 128, 64),) * 3, (1, 1 / 8, 1 / 8, 1)),  # mult/√K for queries and keys
    "grouped heads": (ops.sdpa, ((8, 8, 128, 64), *((8, 2, 128, 64),) * 2), (1, 1 / 8, 2 / 8, 2)),  # √(H/G) = 2
    "linear, not scaled": (F.linear, ((512, 256), (1024, 256)), (16, 32, math.sqrt(512))),
}


@pytest.mark.parametrize("name", UNIT)
def test_outputs_and_gradients_have_the_documented_scale(name: str) -> None:
    op, shapes, expected = UNIT[name]
    assert [rms(x) for x in evaluate(op, normal(*shapes))] == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("mult", [0.25, 1.0, 4.0])
def test_activations_keep_unit_std_over_their_multiplier(mult: float) -> None:
    x, gate = normal((512, 512), (512, 512))
    assert ops.gelu(x, mult).std().item() == pytest.approx(1, abs=0.05)
    assert ops.silu_glu(x, gate, mult).std().item() == pytest.approx(1, abs=0.05)
    assert ops.sdpa(*normal(*((8, 4, 128, 64),) * 3), mult=mult).std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("mult", [0.25, 1.0, 4.0])
def test_the_loss_has_a_unit_gradient_at_the_start(mult: float) -> None:
    (logits,) = normal((2048, 64))
    logits = (logits / 16).requires_grad_()  # as a readout of width 256 makes them
    loss = ops.cross_entropy(logits, torch.arange(2048) % 64, mult)
    (grad,) = torch.autograd.grad(loss, logits)
    assert rms(grad) == pytest.approx(1, abs=0.02)
    assert loss.item() == pytest.approx(F.cross_entropy(mult * logits, torch.arange(2048) % 64).item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaled_is_one_exact_product_each_way(dtype: torch.dtype) -> None:
    x, grad = normal((257,), (257,), dtype=dtype)
    x.requires_grad_()
    assert torch.equal(ops.scaled(x, 1 / 3, 1e8), x * (1 / 3))
    assert torch.equal(torch.autograd.grad(ops.scaled(x, 1 / 3, 1e8), x, grad)[0], grad * 1e8)
    assert torch.equal(ops.scaled(x, backward=0.1), x)


def test_one_token_is_its_own_value() -> None:
    q, k, v = normal(*((1, 2, 1, 8),) * 3)
    assert torch.equal(ops.sdpa(q, k, v), v)


def block(x_NTD: Tensor, w_OD: Tensor, w_DO: Tensor, w_VD: Tensor, mult: ops.Scale = 1.0) -> Tensor:
    """Attention, MLP and loss in one function: every kind of scale there is."""
    h = ops.linear(x_NTD, w_OD, constraint=None)
    q, k, v = (t.unflatten(-1, (4, -1)).transpose(-3, -2) for t in h.chunk(3, dim=-1))
    h = ops.sdpa(q, k, v, mult).transpose(-3, -2).flatten(-2)
    logits = ops.readout(ops.linear(ops.gelu(h, mult), w_DO, constraint=None), w_VD)
    return ops.cross_entropy(logits.flatten(-3, -2), torch.arange(12) % 5, mult)


BLOCK = ((2, 6, 16), (48, 16), (16, 16), (5, 16))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own, for any autograd.Function
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_into_one_graph(backend: str) -> None:
    torch.compiler.reset()
    inputs = normal(*BLOCK)
    compiled = torch.compile(block, backend=backend, fullgraph=True)
    for mine, expected in zip(evaluate(compiled, inputs), evaluate(block, inputs), strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # CPU attention has no batching rule
def test_vmap_over_members_is_a_loop_over_them() -> None:
    inputs = normal(*((3, *shape) for shape in BLOCK))
    mult = torch.tensor([0.5, 1.0, 2.0])
    gradients = torch.func.grad_and_value(block, argnums=(0, 1, 2, 3))
    together, losses = torch.func.vmap(gradients)(*inputs, mult)
    for member in range(3):
        alone, loss = gradients(*(x[member] for x in inputs), mult[member].item())
        torch.testing.assert_close(losses[member], loss)
        for mine, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(mine[member], expected)


def test_a_leading_member_dimension_is_a_loop_over_members() -> None:
    weights = normal((3, 7, 16), (3, 24, 16), (3, 24, 16), (3, 7, 24))
    ids_MBT = torch.stack([IDS.roll(shift).view(4, 10) for shift in range(3)])
    mult = torch.tensor([0.5, 1.0, 2.0])

    def loss(ids: Tensor, mult: ops.Scale, table: Tensor, up: Tensor, gate: Tensor, head: Tensor) -> Tensor:
        x = ops.embedding(ids, table)
        hidden = ops.silu_glu(ops.linear(x, up), ops.linear(x, gate, constraint=None), mult)
        return ops.cross_entropy(ops.readout(hidden, head).flatten(-3, -2), ids.flatten(-2))

    def of_one(member: int) -> list[Tensor]:
        return evaluate(partial(loss, ids_MBT[member], mult[member].item()), [w[member] for w in weights])

    losses, *gradients = evaluate(partial(loss, ids_MBT, mult.view(3, 1, 1, 1)), weights)
    seed = torch.randn(3, generator=torch.Generator().manual_seed(1))  # what `evaluate` fed the three losses
    for member in range(3):
        alone, *expected = of_one(member)
        torch.testing.assert_close(losses[member], alone)
        for mine, theirs in zip(gradients, expected, strict=True):
            torch.testing.assert_close(mine[member] / seed[member], theirs / seed[0])


def test_a_module_of_these_ops_copies_and_is_called_functionally() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(normal((5, 8))[0])

        def forward(self, x: Tensor) -> Tensor:
            return ops.readout(x, self.weight)

    net, (x,) = Net(), normal((4, 8))
    doubled = {"weight": 2 * net.weight.detach()}
    torch.testing.assert_close(torch.func.functional_call(net, doubled, (x,)), 2 * net(x))
    assert torch.equal(copy.deepcopy(net)(x), net(x))
