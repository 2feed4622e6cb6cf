"""The exponents of the second-order, matrix and sign optimizers, measured: what one step of one tensor moves.

A rule is right in width where a step of a tensor changes its layer's output, and the function, by Θ(1) (the spectral
condition, arXiv:2310.17813; arXiv:2312.12226 for K-FAC and Shampoo; arXiv:2512.05620 for Muon, SOAP, Shampoo), and in
depth where a step of all blocks so changes the residual stream. eps and damping are of the gradient's own size here,
so that their cells are part of what is measured.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scalelab.optimizers.adafactor import Adafactor
from scalelab.optimizers.adam_atan2 import AdamAtan2
from scalelab.optimizers.lion import Lion
from scalelab.optimizers.muon import Muon
from scalelab.optimizers.shampoo import Shampoo
from scalelab.optimizers.soap import SOAP
from scalelab.parametrizations import TABLES, Family, Parametrization, Role
from scalelab.parametrizations.table import Rule
from scalelab.scale import ONE, Power, Ratios

FORM = TABLES["mup_table_3"]  # without multipliers: what a weight does is what the layer does
WIDTHS, WIDE, DEPTHS = (64, 128, 256, 512), (128, 256, 512, 1024), (2, 4, 8, 16, 32)
BATCH, INPUTS, OUTPUTS = 32, 8, 4
SEEDS = range(4)
ROLES = (Role.EMBEDDING, Role.HIDDEN, Role.READOUT)
READOUT_GAIN = 0.1  # a first output well below its target, so that the error is the same at every width
SHARE = 0.1  # eps and damping at the base, as a share of what they are added to


@dataclass(frozen=True, kw_only=True)
class Steps:
    """An optimizer: its family, a learning rate at the base, how many steps move something once."""

    family: Family
    make: Callable[..., torch.optim.Optimizer] | None
    lr: float
    steps: int = 1
    eps: bool = True


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups)


OPTIMIZERS = {
    "sgd": Steps(family=Family.SGD, make=torch.optim.SGD, lr=0.1),
    "adamw": Steps(family=Family.ADAM, make=adamw, lr=0.01),
    "adam_atan2": Steps(family=Family.ADAM, make=AdamAtan2, lr=0.01, eps=False),
    "lion": Steps(family=Family.ADAM, make=Lion, lr=0.01, eps=False),
    "adafactor": Steps(family=Family.ADAFACTOR, make=Adafactor, lr=0.01),
    "muon": Steps(family=Family.MUON, make=functools.partial(Muon, ns_dtype=torch.float64), lr=0.1),
    "shampoo": Steps(family=Family.SHAMPOO, make=functools.partial(Shampoo, root=1 / 4, damping="absolute"), lr=0.1),
    "shampoo_half": Steps(
        family=Family.SHAMPOO_HALF, make=functools.partial(Shampoo, root=1 / 2, damping="absolute"), lr=0.01
    ),
    "soap": Steps(family=Family.SOAP, make=SOAP, lr=0.05, steps=2),  # its first only sets the bases
    "kfac": Steps(family=Family.KFAC, make=None, lr=0.01),
}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)
each_role = pytest.mark.parametrize("role", ROLES)


def kfac(z_BI: Tensor, error_BO: Tensor, rho_input: float, rho: float) -> Tensor:
    """(B + ρ)⁻¹ · g · (A + ρ')⁻¹ with A = mean z·zᵀ and B = mean δ·δᵀ (Martens & Grosse, arXiv:1503.05671)."""
    gradient = error_BO.T @ z_BI / BATCH
    a, b = z_BI.T @ z_BI / BATCH, error_BO.T @ error_BO / BATCH
    left = torch.linalg.solve(b + rho * torch.eye(len(b)), gradient)
    return torch.linalg.solve(a + rho_input * torch.eye(len(a)), left.T).T


def rms(x: Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def top(matrix: Tensor) -> float:
    """The largest eigenvalue of m·mᵀ."""
    return float(torch.linalg.matrix_norm(matrix, 2)) ** 2


# What eps (K-FAC: the damping of B) is added to, for a layer with inputs z and output errors δ, a row a sample.
SIZE: Mapping[Family, Callable[[Tensor, Tensor], float]] = {
    Family.ADAM: lambda z, error: rms(error.T @ z / BATCH),
    Family.MUON: lambda z, error: float(torch.linalg.norm(error.T @ z / BATCH)),
    Family.SOAP: lambda z, error: float(torch.linalg.norm(error.T @ z / BATCH)),
    Family.SHAMPOO: lambda z, error: top(error.T @ z / BATCH),
    Family.SHAMPOO_HALF: lambda z, error: top(error.T @ z / BATCH),
    Family.KFAC: lambda z, error: top(error) / BATCH,
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# --- width ------------------------------------------------------------------------------------------------------------


def at(role: Role, width: int) -> Ratios:
    grows = {Role.EMBEDDING: ("fan_out",), Role.HIDDEN: ("fan_in", "fan_out"), Role.READOUT: ("fan_in",)}[role]
    return Ratios(**dict.fromkeys(grows, Fraction(width, WIDTHS[0])))


class MLP:
    """Three linear maps with a tanh between them, on one batch; `layers` are (inputs, outputs) of each."""

    def __init__(self, width: int, form: Parametrization, family: Family, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.x_BI, self.y_BO = (torch.randn(BATCH, size, generator=draw) for size in (INPUTS, OUTPUTS))
        sizes = ((width, INPUTS), (width, width), (OUTPUTS, width))
        fans = (INPUTS, WIDTHS[0], WIDTHS[0] / READOUT_GAIN**2)
        self.weights = {}
        for role, size, fan in zip(ROLES, sizes, fans, strict=True):
            std = fan**-0.5 * form.rule(role, family).init(at(role, width))
            self.weights[role] = nn.Parameter(torch.randn(size, generator=draw) * std)

    def layers(self) -> dict[Role, tuple[Tensor, Tensor]]:
        found, z = {}, self.x_BI
        for role, weight in self.weights.items():
            found[role] = (z, z @ weight.T)
            z = found[role][1].tanh()
        return found

    def loss(self, layers: Mapping[Role, tuple[Tensor, Tensor]]) -> Tensor:
        return (layers[Role.READOUT][1] - self.y_BO).square().mean()

    def seen(self, role: Role) -> tuple[Tensor, Tensor]:
        """The inputs of a layer and the errors of its outputs, a row a sample."""
        layers = self.layers()
        (error,) = torch.autograd.grad(self.loss(layers), layers[role][1])
        return layers[role][0].detach(), error * BATCH


@functools.cache
def base_sizes(form: str, family: Family, role: Role, seed: int) -> tuple[float, float]:
    """What eps and K-FAC's other damping are added to at the base."""
    z, error = MLP(WIDTHS[0], TABLES[form], family, seed).seen(role)
    return (SIZE[family](z, error) if family in SIZE else 0.0), top(z) / BATCH


def change(optimizer: str, role: Role, width: int, form: Parametrization, rule: Rule, seed: int) -> tuple[float, float]:
    """RMS change of a layer's output, and of the function's, by one step of that layer alone."""
    by, ratios = OPTIMIZERS[optimizer], at(role, width)
    model = MLP(width, form, by.family, seed)
    weight, before = model.weights[role], model.layers()
    lr = by.lr * rule.lr(ratios)
    eps, eps_input = (SHARE * size for size in base_sizes(form.name, by.family, role, seed))
    if by.make is None:
        assert rule.eps is not None and rule.eps_input is not None
        step = kfac(*model.seen(role), eps_input * rule.eps_input(ratios), eps * rule.eps(ratios))
        with torch.no_grad():
            weight.sub_(lr * step)
    else:
        group = {"params": [weight], "lr": lr, "weight_decay": 0.0}
        if rule.eps is not None and by.eps:
            group["eps"] = eps * rule.eps(ratios)
        stepped = by.make([group])
        for _ in range(by.steps):
            stepped.zero_grad()
            model.loss(model.layers()).backward()  # type: ignore[no-untyped-call]
            stepped.step()
    after = model.layers()
    return rms(after[role][1] - before[role][1]), rms(after[Role.READOUT][1] - before[Role.READOUT][1])


def slope(sizes: Sequence[int], values: Any) -> Any:
    """d log(value) / d log(size), for each column of values [size, …]."""
    return np.polyfit(np.log2(sizes), np.log2(np.array(values)), 1)[0]


def slopes(optimizer: str, role: Role, form: Parametrization, rule: Rule, widths: Sequence[int] = WIDTHS) -> np.ndarray:
    """Slopes in width of the change of the layer and of the function."""
    return slope(widths, [change(optimizer, role, width, form, rule, seed=0) for width in widths])


def width_exponent(cell: Power | None) -> float:
    assert isinstance(cell, Power)
    return float(cell.exponent("fan_in") + cell.exponent("fan_out"))


@each_role
@each_optimizer
def test_a_step_under_mup_moves_the_layer_and_the_function_alike_at_every_width(optimizer: str, role: Role) -> None:
    found = slopes(optimizer, role, FORM, FORM.rule(role, OPTIMIZERS[optimizer].family))
    assert found == pytest.approx([0, 0], abs=0.1)


@pytest.mark.slow
@each_role
@each_optimizer
def test_and_so_it_does_up_to_a_width_of_1024(optimizer: str, role: Role) -> None:
    found = slopes(optimizer, role, FORM, FORM.rule(role, OPTIMIZERS[optimizer].family), WIDE)
    assert found == pytest.approx([0, 0], abs=0.1)


@each_role
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon", "shampoo", "soap"])
def test_a_constant_rate_moves_the_layer_by_the_exponent_that_it_lacks(optimizer: str, role: Role) -> None:
    rule = FORM.rule(role, OPTIMIZERS[optimizer].family)
    found, _ = slopes(optimizer, role, FORM, replace(rule, lr=ONE))
    assert found == pytest.approx(-width_exponent(rule.lr), abs=0.1)


@each_optimizer
def test_under_sp_some_step_grows_or_fades_with_width(optimizer: str) -> None:
    sp = TABLES["sp"]
    rules = {role: sp.rule(role, OPTIMIZERS[optimizer].family) for role in ROLES}
    rules = {role: replace(rule, eps_input=rule.eps) for role, rule in rules.items()}
    assert max(np.abs(slopes(optimizer, role, sp, rule)).max() for role, rule in rules.items()) > 0.3


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


@each_role
@pytest.mark.parametrize("family", SIZE)
def test_eps_moves_like_what_it_is_added_to(family: Family, role: Role) -> None:
    rule = FORM.rule(role, family)
    seen = [[MLP(width, FORM, family, seed).seen(role) for seed in SEEDS] for width in WIDTHS]
    sizes = [geometric_mean([SIZE[family](*at) for at in of_width]) for of_width in seen]
    assert slope(WIDTHS, sizes) == pytest.approx(width_exponent(rule.eps), abs=0.1)
    if family is Family.KFAC:
        inputs = [geometric_mean([top(z) for z, _ in of_width]) for of_width in seen]
        assert slope(WIDTHS, inputs) == pytest.approx(width_exponent(rule.eps_input), abs=0.1)


def test_adams_eps_where_an_mlp_changes_its_aspect() -> None:
    """TP-V App. B.3 has 1/fan_in, as the table here, and the code of arXiv:2512.05620 1/fan_out: alike where both grow.

    Measured, where the hidden size of an MLP alone grows: a down-projection's gradient does not know its fan-in, an
    up-projection's falls like 1/√fan_out; where the stream alone grows, like 1/fan_out and like 1/√fan_in.
    """
    found = {}
    for grows in ("ffn", "stream"):
        sizes = [
            gradients_of_an_mlp(*((WIDTHS[0], size) if grows == "ffn" else (size, WIDTHS[0]))) for size in WIDTHS
        ]  # fmt: skip
        found[grows] = slope(WIDTHS, sizes)
    assert found["ffn"] == pytest.approx([-1 / 2, 0], abs=0.1)
    assert found["stream"] == pytest.approx([-1 / 2, -1], abs=0.1)
    for m in (2, 4):
        at = Ratios(fan_in=Fraction(m), fan_out=Fraction(m))
        eps = FORM.rule(Role.HIDDEN, Family.ADAM).eps
        assert eps is not None and eps(at) == 1 / m  # and so it is right where the aspect is kept


def gradients_of_an_mlp(stream: int, ffn: int) -> list[float]:
    """RMS of the gradients of up [ffn, stream] and down [stream, ffn] between an embedding and a readout in T3 form."""
    found = []
    for seed in SEEDS:
        draw = torch.Generator().manual_seed(seed)
        sizes = ((stream, INPUTS), (ffn, stream), (stream, ffn), (OUTPUTS, stream))
        stds = (INPUTS**-0.5, stream**-0.5, ffn**-0.5, READOUT_GAIN / stream)
        weights = [nn.Parameter(torch.randn(size, generator=draw) * std) for size, std in zip(sizes, stds, strict=True)]
        z, y = (torch.randn(BATCH, size, generator=draw) for size in (INPUTS, OUTPUTS))
        for index, weight in enumerate(weights):
            z = (z.tanh() if index else z) @ weight.T
        found.append([rms(g) for g in torch.autograd.grad((z - y).square().mean(), weights[1:3])])
    return [geometric_mean(column) for column in zip(*found, strict=True)]


# --- depth ------------------------------------------------------------------------------------------------------------


class Residual:
    """h + depth^-α · W·tanh(h), `depth` times, on a stream of 32 channels."""

    WIDTH = 32

    def __init__(self, depth: int, alpha: Fraction, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.x_BD, self.y_BD = (torch.randn(BATCH, self.WIDTH, generator=draw) for _ in range(2))
        gain = 0.5 * self.WIDTH**-0.5  # the stream's own growth stays out of the slopes
        size = (self.WIDTH, self.WIDTH)
        self.weights = [nn.Parameter(torch.randn(size, generator=draw) * gain) for _ in range(depth)]
        self.scale = depth ** -float(alpha)

    def blocks(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The end of the stream, and (inputs, outputs) of each block's matrix."""
        h, found = self.x_BD, []
        for weight in self.weights:
            z = h.tanh()
            found.append((z, z @ weight.T))
            h = h + self.scale * found[-1][1]
        return h, found

    def loss(self, stream: Tensor) -> Tensor:
        return (stream * self.y_BD).mean()  # an error of Θ(1) at every depth

    def seen(self) -> list[tuple[Tensor, Tensor]]:
        stream, blocks = self.blocks()
        errors = torch.autograd.grad(self.loss(stream), [outputs for _, outputs in blocks])
        return [(z.detach(), error * BATCH) for (z, _), error in zip(blocks, errors, strict=True)]


def stream_change(optimizer: str, depth: int, alpha: Fraction, rule: Rule, seed: int) -> float:
    """RMS change of the end of the stream by one step of every block."""
    by, ratios = OPTIMIZERS[optimizer], Ratios(depth=Fraction(depth, DEPTHS[0]))
    z, error = Residual(DEPTHS[0], alpha, seed).seen()[0]
    model, lr = Residual(depth, alpha, seed), 0.1 * by.lr * rule.lr(ratios)
    eps = 0.0 if rule.eps is None else SHARE * SIZE[by.family](z, error) * rule.eps(ratios)
    before, _ = model.blocks()
    if by.make is None:
        for weight, of_block in zip(model.weights, model.seen(), strict=True):
            with torch.no_grad():
                weight.sub_(lr * kfac(*of_block, SHARE * top(z) / BATCH, eps))
    else:
        group = {"params": model.weights, "lr": lr, "weight_decay": 0.0}
        stepped = by.make([{**group, "eps": eps} if eps and by.eps else group])
        for _ in range(by.steps):
            stepped.zero_grad()
            model.loss(model.blocks()[0]).backward()  # type: ignore[no-untyped-call]
            stepped.step()
    return rms(model.blocks()[0] - before)


each_alpha = pytest.mark.parametrize("alpha", [Fraction(1, 2), Fraction(1)], ids=str)


def deepened(family: Family, alpha: Fraction) -> Rule:
    return Rule(multiplier=ONE, init=ONE, lr=ONE, weight_decay=ONE, eps=ONE).deepened(alpha, family)


@each_alpha
@each_optimizer
def test_a_step_of_all_blocks_moves_the_stream_alike_at_every_depth(optimizer: str, alpha: Fraction) -> None:
    rule = deepened(OPTIMIZERS[optimizer].family, alpha)
    if OPTIMIZERS[optimizer].family.eps_degree is None:
        rule = replace(rule, eps=None)
    found = slope(DEPTHS, [stream_change(optimizer, depth, alpha, rule, seed=0) for depth in DEPTHS])
    assert found == pytest.approx(0, abs=0.1)


@each_alpha
@pytest.mark.parametrize("family", SIZE)
def test_eps_in_the_blocks_moves_with_depth_like_what_it_is_added_to(family: Family, alpha: Fraction) -> None:
    sizes = [np.mean([SIZE[family](*at) for at in Residual(depth, alpha, seed=0).seen()]) for depth in DEPTHS]
    rule = deepened(family, alpha)
    assert rule.eps is not None
    assert slope(DEPTHS, sizes) == pytest.approx(float(rule.eps.exponent("depth")), abs=0.1)
