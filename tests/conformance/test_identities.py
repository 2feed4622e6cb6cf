"""What holds exactly: equivalent forms train alike, factors compose, a base at the target is SP.

The abc-symmetry (TP-V, arXiv:2203.03466, Lemma J.1): a multiplier larger by θ with an init smaller by it is the same
function, and trains the same way once the learning rate goes by θ^(p−1−d), d and p the degrees of a step in the
gradient and in the parameter, and eps by θ^e.
"""

import functools
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scalelab.models import inventory
from scalelab.optimizers.adafactor import Adafactor
from scalelab.optimizers.adam_atan2 import AdamAtan2
from scalelab.optimizers.lion import Lion
from scalelab.optimizers.muon import Muon
from scalelab.optimizers.shampoo import Shampoo
from scalelab.optimizers.soap import SOAP
from scalelab.parametrizations import TABLES, Family, Parametrization, Role
from scalelab.parametrizations.decay import with_policy
from scalelab.parametrizations.table import UNDECAYED, Rule
from scalelab.resolve import multipliers
from scalelab.resolve import settings as resolved
from scalelab.scale import Cell, Power, Ratios
from scalelab.shape import Architecture
from tests.conftest import make_spec


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


HALF = Fraction(1, 2)
SIZES = {Role.EMBEDDING: (24, 6), Role.HIDDEN: (24, 24), Role.READOUT: (4, 24)}
BATCH, STEPS = 32, 5


@dataclass(frozen=True, kw_only=True)
class Trained:
    """An optimizer of a family and the learning rate and eps that it has at the base."""

    family: Family
    make: Callable[..., torch.optim.Optimizer]
    lr: float
    eps: float | None = None


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups)


OPTIMIZERS = {
    "sgd": Trained(family=Family.SGD, make=functools.partial(torch.optim.SGD, momentum=0.9), lr=0.1),
    "adamw": Trained(family=Family.ADAM, make=adamw, lr=0.01, eps=1e-4),
    "adam_atan2": Trained(family=Family.ADAM, make=AdamAtan2, lr=0.01),
    "lion": Trained(family=Family.ADAM, make=Lion, lr=0.01),
    "adafactor": Trained(family=Family.ADAFACTOR, make=functools.partial(Adafactor, eps=(1e-60, 0.0)), lr=0.01),
    "muon": Trained(
        family=Family.MUON, make=functools.partial(Muon, ns_dtype=torch.float64), lr=0.02, eps=1e-2
    ),
    "shampoo": Trained(
        family=Family.SHAMPOO, make=functools.partial(Shampoo, root=1 / 4, damping="absolute"), lr=0.02, eps=1e-4
    ),
    "shampoo_half": Trained(
        family=Family.SHAMPOO_HALF, make=functools.partial(Shampoo, root=1 / 2, damping="absolute"), lr=2e-3, eps=1e-4
    ),
    "soap": Trained(family=Family.SOAP, make=functools.partial(SOAP, interval=2), lr=0.01, eps=1e-4),
}  # fmt: skip
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def at(role: Role, m: int) -> Ratios:
    grows = {Role.EMBEDDING: ("fan_out",), Role.HIDDEN: ("fan_in", "fan_out"), Role.READOUT: ("fan_in",)}[role]
    return Ratios(**dict.fromkeys(grows, Fraction(m)), depth=Fraction(m if role is Role.HIDDEN else 1))


def trajectory(form: Parametrization, optimizer: str, m: int) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs of a three-layer network before each of five steps, and its first gradients."""
    by, draw = OPTIMIZERS[optimizer], torch.Generator().manual_seed(0)
    weights, multiply, groups = {}, {}, []
    for role, size in SIZES.items():
        rule, ratios = form.rule(role, by.family), at(role, m)
        start = torch.randn(size, generator=draw, dtype=torch.float64) * size[1] ** -0.5
        weights[role] = nn.Parameter(start * rule.init(ratios))
        multiply[role] = rule.multiplier(ratios)
        group = {"params": [weights[role]], "lr": by.lr * rule.lr(ratios)}
        group["weight_decay"] = 0.1 * rule.weight_decay(ratios)
        if by.eps is not None and rule.eps is not None:
            group["eps"] = by.eps * rule.eps(ratios)
        groups.append(group)
    stepped, outputs, gradients = by.make(groups), [], []
    for _ in range(STEPS):
        z = torch.randn(BATCH, SIZES[Role.EMBEDDING][1], generator=draw, dtype=torch.float64)
        y = torch.randn(BATCH, SIZES[Role.READOUT][0], generator=draw, dtype=torch.float64)
        for role, weight in weights.items():
            z = multiply[role] * (z if role is Role.EMBEDDING else z.tanh()) @ weight.T
        stepped.zero_grad()
        (z - y).square().mean().backward()
        gradients = gradients or [weight.grad.clone() for weight in weights.values() if weight.grad is not None]
        stepped.step()
        outputs.append(z.detach())
    return outputs, gradients


def assert_alike(one: Parametrization, other: Parametrization, optimizer: str, m: int) -> None:
    for a, b in zip(trajectory(one, optimizer, m)[0], trajectory(other, optimizer, m)[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


exponents = st.sampled_from([-1, -HALF, 0, HALF, 1])
thetas = st.fixed_dictionaries(
    {
        Role.EMBEDDING: st.builds(Power, fan_out=exponents),
        Role.HIDDEN: st.builds(Power, fan_in=exponents, fan_out=exponents),
        Role.READOUT: st.builds(Power, fan_in=exponents),
    }
)
# SOAP's basis of a null space is rounding's choice: there, θ is a power of two and rounds nothing.
ratios_of = {name: st.just(4) if name == "soap" else st.sampled_from([2, 3, 5]) for name in OPTIMIZERS}


@each_optimizer
@given(data=st.data(), theta=thetas)
@settings(max_examples=8, deadline=None)
def test_shifted_forms_have_one_trajectory(optimizer: str, data: st.DataObject, theta: dict[Role, Power]) -> None:
    assert_alike(TABLES["mup"], TABLES["mup"].shifted(theta), optimizer, data.draw(ratios_of[optimizer]))


@each_optimizer
@pytest.mark.parametrize("form", ["mup_table_3", "mup_table_9"])
def test_tables_3_8_and_9_have_one_trajectory(form: str, optimizer: str) -> None:
    assert_alike(TABLES["mup"], TABLES[form], optimizer, 4)


def covering(optimizer: str) -> list[str]:
    needed = {(role, OPTIMIZERS[optimizer].family) for role in SIZES}
    return [name for name, table in TABLES.items() if needed <= table.rules.keys()]


@pytest.mark.parametrize(
    ("name", "optimizer"), [(name, optimizer) for optimizer in OPTIMIZERS for name in covering(optimizer)]
)
def test_folding_keeps_the_trajectory(name: str, optimizer: str) -> None:
    assert_alike(TABLES[name], TABLES[name].folded(), optimizer, 4)


def test_a_global_clip_is_not_the_same_in_every_form() -> None:
    """Each gradient carries its own multiplier: the norm over all of them, and a bound on it, belong to the form."""
    forms = [TABLES[name] for name in ("mup", "mup_table_3", "mup_table_9")]
    norms = {sum(float(g.square().sum()) for g in trajectory(form, "sgd", 4)[1]) for form in forms}
    assert len({round(norm, 9) for norm in norms}) == len(forms)


# --- factors ----------------------------------------------------------------------------------------------------------

RELATIVE = [name for name, table in TABLES.items() if not table.unit_scaled]
each_table = pytest.mark.parametrize("name", TABLES)
each_relative = pytest.mark.parametrize("name", RELATIVE)


def cells(rule: Rule) -> list[Cell]:
    optional = [cell for cell in (rule.eps, rule.eps_input) if cell is not None]
    return [rule.multiplier, rule.init, rule.lr, rule.weight_decay, *optional]


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    heads = draw(st.sampled_from([2, 4]))
    width = heads * 2 * draw(st.integers(4, 16))
    sizes = {"heads": heads, "kv_heads": draw(st.sampled_from([1, 2, heads])), "ffn": draw(st.integers(8, 400))}
    return {"width": width, "depth": draw(st.integers(1, 6)), "sizes": sizes}


hparams = st.fixed_dictionaries(
    {name: st.floats(1e-3, 10) for name in ("lr", "eps", "init_gain", "embedding_std", "logits_multiplier")}
)


@each_relative
@given(at=shapes(), hparams=hparams)
@settings(max_examples=6, deadline=None)
def test_every_table_is_sp_at_a_base_of_any_shape(name: str, at: dict[str, Any], hparams: dict[str, float]) -> None:
    base = {"base_width": at["width"], "base_depth": at["depth"]}
    table, sp = (
        make_spec(each, architecture=Architecture(biases=True), hparams=hparams, **at, **base) for each in (name, "sp")
    )
    assert resolved(table) == resolved(sp)
    assert multipliers(table) == multipliers(sp)


@each_relative
@given(shape=st.lists(shapes(), min_size=3, max_size=3))
@settings(max_examples=6, deadline=None)
def test_factors_compose(name: str, shape: list[dict[str, Any]]) -> None:
    """From a base to a target at once, or by way of a shape between them: the same factors of every tensor."""
    small, middle, large = ({**each, "depth": shape[0]["depth"]} for each in shape)

    def steps(base: dict[str, Any], to: dict[str, Any]) -> list[tuple[Role, Ratios]]:
        given = {"base_width": base["width"], "base_depth": base["depth"], "base_sizes": base["sizes"]}
        spec = make_spec(name, **to, **given)
        return [(tensor.role, tensor.ratios(spec.scales)) for tensor in inventory(spec)]

    rules = TABLES[name].rules
    for (role, one), (_, other), (_, whole) in zip(
        steps(small, middle), steps(middle, large), steps(small, large), strict=True
    ):
        for rule in (rule for (each, _), rule in rules.items() if each is role):
            for cell in cells(rule):
                assert cell(whole) == pytest.approx(cell(one) * cell(other), rel=1e-12)


@each_table
@given(m=st.fractions(Fraction(1, 8), 64, max_denominator=8), n=st.fractions(Fraction(1, 8), 64, max_denominator=8))
@settings(max_examples=6, deadline=None)
def test_an_independent_decay_is_the_same_for_every_tensor(name: str, m: Fraction, n: Fraction) -> None:
    at = Ratios(fan_in=m, fan_out=n, depth=n, batch=m, tokens=n, base_fan_in=64, base_fan_out=32)
    for (role, _), rule in TABLES[name].rules.items():
        decayed = with_policy(rule, role, "independent")
        assert (decayed is None) == (role in UNDECAYED)
        if decayed is not None:
            assert decayed.lr == rule.lr
            assert rule.lr(at) * decayed.weight_decay(at) == pytest.approx(1.0, rel=1e-12)


@each_table
def test_a_table_survives_pickling(name: str) -> None:
    again = pickle.loads(pickle.dumps(TABLES[name]))
    assert again == TABLES[name] and again.digest == TABLES[name].digest
    at = Ratios(fan_in=Fraction(7, 2), fan_out=Fraction(5), depth=Fraction(3), base_fan_in=64, base_fan_out=32)
    for key, rule in TABLES[name].rules.items():
        assert [cell(at) for cell in cells(again.rules[key])] == [cell(at) for cell in cells(rule)]


def test_an_edited_cell_is_another_table() -> None:
    table = TABLES["mup"]
    for key, rule in table.rules.items():
        edited = replace(rule, lr=rule.lr * Power(depth=1))
        assert replace(table, rules={**table.rules, key: edited}).digest != table.digest
