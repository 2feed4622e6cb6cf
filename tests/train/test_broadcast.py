"""AdamW of all members at once: torch's formula to rounding, a member's bits its own, torch's state in and out."""

from typing import Any

import pytest
import torch
from torch import Tensor

from scalelab.parametrizations.table import Role
from scalelab.resolve import settings
from scalelab.spec import RunSpec
from scalelab.train.member import begun
from scalelab.train.population import Population
from tests.conftest import make_spec
from tests.train.running import NARROW, assert_same_state, population, stepped

HPARAMS: list[dict[str, Any]] = [
    {},
    {"lr": 0.03, "weight_decay": 0.5, "beta1": 0.8, "beta2": 0.99, "clip_norm": 0.05},
    {"lr": 0.02, "weight_decay": 0.0, "clip_norm": None, "eps": 1e-4},
    {"lr": 1e30},
]


def specs_of(*which: int) -> list[RunSpec]:
    return [make_spec(**NARROW, hparams=HPARAMS[index], seed=index) for index in which]


def states(specs: list[RunSpec], steps: int = 4, **given: Any) -> list[dict[str, Any]]:
    trained = population(specs, **given)
    stepped(trained, steps)
    return [member.state() for member in trained.members]


def test_a_step_is_that_of_torchs_adamw() -> None:
    """After one step in a common state: what is left are the roundings of about ten operations."""
    specs = specs_of(0, 1, 2)
    ours = population(specs, broadcast=True)
    stepped(ours, 3)
    theirs = Population([begun(at, member.spec, "cpu", member.state()) for at, member in enumerate(ours.members)])
    assert theirs.optimizer is None and ours.optimizer is not None
    stepped(ours, 1)
    stepped(theirs, 1)
    for one, other in zip(ours.members, theirs.members, strict=True):
        for name, value in one.state()["network"].items():
            torch.testing.assert_close(value, other.state()["network"][name], rtol=2e-6, atol=1e-7, msg=name)
        for name, kept in one.state()["optimizer"].items():
            for key, value in kept.items():
                expected = other.state()["optimizer"][name][key]
                scale = float(expected.abs().max())
                torch.testing.assert_close(value, expected, rtol=2e-6, atol=2e-6 * scale, msg=f"{name} {key}")


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("beside", [(), (1, 2), (3, 3), (2, 2, 1, 3)])
def test_a_member_has_the_same_bits_beside_any_others(place: int, beside: tuple[int, ...]) -> None:
    (expected,) = states(specs_of(0), broadcast=True)
    place = min(place, len(beside))
    found = states(specs_of(*beside[:place], 0, *beside[place:]), broadcast=True)
    assert_same_state(expected, found[place])


def test_a_neighbour_that_is_nan_is_so_alone() -> None:
    found = states(specs_of(0, 3, 1), broadcast=True)
    assert not all(value.isfinite().all() for value in found[1]["network"].values())
    for index in (0, 2):
        assert all(value.isfinite().all() for value in found[index]["network"].values())


def test_tables_that_give_other_rates_to_a_tensor_do_not_meet() -> None:
    given = {"width": 32, "base_width": 16, "base_depth": 2}
    specs = [make_spec(name, **given) for name in ("mup", "depth_mup", "mup_table_3")]
    together = states(specs, broadcast=True)
    for spec, state in zip(specs, together, strict=True):
        (expected,) = states([spec], broadcast=True)
        assert_same_state(expected, state)
    moved = [setting.lr for setting in settings(specs[0]) if setting.tensor.role is Role.HIDDEN]
    assert moved[0] != specs[0].hparams.lr  # the rates are a tensor's own


def moved(population: Population, grads: list[float]) -> list[Tensor]:
    """How far one step moves each member whose gradients are all one number."""
    optimizer = population.optimizer
    assert optimizer is not None
    before = {name: leaf.detach().clone() for name, leaf in optimizer.leaves.items()}
    for leaf in optimizer.leaves.values():
        leaf.grad = torch.tensor(grads).view(-1, *[1] * (leaf.dim() - 1)).expand_as(leaf).contiguous()
    optimizer.step(torch.ones(len(grads)))
    firsts = optimizer.first.values()
    assert before.keys() == optimizer.leaves.keys()
    return [torch.cat([first[place].flatten() for first in firsts]) for place in range(len(grads))]


def test_clipping_is_a_members_own() -> None:
    hparams: list[dict[str, Any]] = [{"clip_norm": 1.0}, {"clip_norm": None}, {"clip_norm": 1e9}, {"clip_norm": 0.1}]
    trained = population([make_spec(**NARROW, hparams=each) for each in hparams], broadcast=True)
    means = moved(trained, [1.0] * 4)  # the first moments are (1 − β1) times the clipped gradients
    norms = [float(mean.norm()) / (1 - 0.9) for mean in means]
    full = float(means[0].numel()) ** 0.5
    assert norms == pytest.approx([1.0, full, full, 0.1], rel=1e-5)


def test_without_a_limit_a_huge_gradient_is_what_it_is_whatever_the_neighbours_have() -> None:
    """The square of its norm overflows; a limit makes zero of it, as torch's clipping does."""
    hparams: list[dict[str, Any]] = [{"clip_norm": None}, {"clip_norm": 1.0}]
    both = population([make_spec(**NARROW, hparams=each) for each in hparams], broadcast=True)
    one = population([make_spec(**NARROW, hparams=hparams[0])], broadcast=True)
    free, limited = moved(both, [1e25, 1e25])
    assert torch.equal(free, moved(one, [1e25])[0])
    assert free.isfinite().all() and float(free.abs().min()) > 1e23
    assert torch.equal(limited, torch.zeros_like(limited))


def test_its_state_is_torchs_and_torchs_is_its() -> None:
    specs = specs_of(0, 1, 2)
    ours = population(specs, broadcast=True)
    stepped(ours, 3)
    saved = [member.state() for member in ours.members]
    torchs = Population(
        [begun(at, spec, "cpu", state) for at, (spec, state) in enumerate(zip(specs, saved, strict=True))]
    )
    for before, member in zip(saved, torchs.members, strict=True):
        assert member.optims and member.shared is None
        assert_same_state(before, member.state())
    stepped(torchs, 2)
    kept = [member.state() for member in torchs.members]
    back = Population([begun(at, spec, "cpu", kept[at]) for at, spec in enumerate(specs)], broadcast=True)
    for before, member in zip(kept, back.members, strict=True):
        assert member.shared is not None and not member.optims
        assert_same_state(before, member.state())


def test_a_round_trip_costs_no_bit() -> None:
    specs = specs_of(0, 1, 2)
    straight = states(specs, 5, broadcast=True)
    trained = population(specs, broadcast=True)
    stepped(trained, 2)
    fewer = Population(trained.members[1:], broadcast=True)  # somebody leaves: the moments come along
    stepped(fewer, 1)
    again = [begun(at, member.spec, "cpu", member.state()) for at, member in enumerate(fewer.members)]
    resumed = Population(again[::-1], broadcast=True)
    stepped(resumed, 2)
    for expected, member in zip(straight[:0:-1], resumed.members, strict=True):
        assert_same_state(expected, member.state())


def test_a_state_before_the_first_step_is_empty_as_torchs_is() -> None:
    (state,) = [member.state() for member in population(specs_of(0), broadcast=True).members]
    assert state["optimizer"] == {} == population(specs_of(0)).members[0].state()["optimizer"]


def test_only_adamw_is_broadcast() -> None:
    assert population([make_spec(**NARROW, optimizer="sgd")], broadcast=True).optimizer is None
    assert population([make_spec(**NARROW)]).optimizer is None  # on a CPU torch's own is faster
