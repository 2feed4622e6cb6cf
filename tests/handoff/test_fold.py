"""Multipliers put into the weights: every one of them, in every place, exactly; and where nothing can hold one."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from scalelab.errors import Refused
from scalelab.exporters import Handoff, handoff
from scalelab.exporters.fold import folded, notes, times
from scalelab.exporters.handed import Handed
from scalelab.networks import Proxy
from scalelab.networks.layers import Linear, Multiplied
from scalelab.networks.moe import Router
from scalelab.networks.transformer import Attention, Residual
from scalelab.optimizers import OPTIMIZERS
from scalelab.parametrizations.table import Role
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.handoff.recipes import CASES, MULTIPLIED, case, handoff_of, recipe_of, spec_of
from tests.handoff.training import batches, grown_state, losses, ours, started, trained

# Those that only this file folds: norms of other kinds, learned positions, tied tables, other tables than muP.
OURS = ("mup-scalar-gains", "mup-learned-positions", "mup-zero", "completep-biases")
MORE = ("mup-no-gains", "mup-tied", "depth-mup", "mean-field")


def without(network: Proxy, run: Handoff) -> None:
    """Our network with the forward constants that are left in a folded run, and no other."""
    for module in network.modules():
        if isinstance(module, Multiplied):
            module.multiplier = 1.0
        elif isinstance(module, Attention):
            module.scale, module.multiplier = run.attention, 1.0
        elif isinstance(module, Residual):
            module.residual, module.multiplier = run.residual, 1.0
    network.embedding.multiplier = run.embedding  # type: ignore[union-attr]
    for each in run.tensors:
        if each.role in (Role.READOUT, Role.TIED):
            network.readout.multiplier = each.multiplier  # type: ignore[union-attr]


def losses_of(run: Handoff, spec: RunSpec, **constants: Any) -> list[float]:
    """The losses of a run by the values that it has, on our network without what is folded."""
    network = started(spec)
    state = grown_state(network, handoff_of(spec), run)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(state[name])
    without(network, run)
    groups: list[dict[str, Any]] = [
        {"params": [parameter], "lr": each.lr, "eps": each.eps, "weight_decay": each.weight_decay}
        for each, parameter in ((run.by_name[name], parameter) for name, parameter in network.named_parameters())
    ]
    optimizer = torch.optim.AdamW(groups, betas=(run.beta1, run.beta2))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, spec.horizon.lr_factor)

    def step(_: int) -> None:
        optimizer.step()
        scheduler.step()

    return trained(network.parameters(), network.loss, step, batches(spec))


@pytest.mark.parametrize("name", [*OURS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_folded_it_trains_as_before(name: str) -> None:
    spec = case(name)
    run = folded(handoff_of(spec))
    assert (run.residual, run.embedding) == (1.0, 1.0) and run.attention == pytest.approx(16**-0.5)
    assert all(each.multiplier == 1.0 for each in run.tensors)
    assert losses_of(run, spec) == pytest.approx(ours(name), rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("mup-multipliers", {"keep": ("tensors", "embedding", "residual")}),
        ("mup-multipliers", {"keep": ("attention",)}),
        ("mup-tied-multipliers", {"keep": ("tensors",)}),
        ("mup-tied-multipliers", {"keep": ("embedding", "residual")}),
        ("mup-qk-norm", {"attention": 1 / 16, "both": True}),
        ("mup-biases", {"both": True}),
    ],
)
def test_what_is_kept_stays_and_the_rest_is_folded(name: str, given: dict[str, Any]) -> None:
    spec = case(name)
    before, run = handoff_of(spec), folded(handoff_of(spec), **given)
    for place in ("embedding", "residual", "attention"):
        if place in given.get("keep", ()):
            assert getattr(run, place) == getattr(before, place) != 1.0
    assert run.attention == given.get("attention", run.attention)
    assert losses_of(run, spec) == pytest.approx(ours(name), rel=1e-9, abs=0)


def test_experts_and_their_router_are_folded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Router, "forward", Linear.forward)  # which is in float32 whatever surrounds it
    experts = {"experts": 4, "top_k": 2}
    spec = spec_of("completep", model="moe", sizes={**experts, "ffn": 64}, base_sizes={**experts, "ffn": 32},
                   hparams=MULTIPLIED)  # fmt: skip
    before, run = handoff_of(spec).by_name, folded(handoff_of(spec))
    writers = [each for each in run.tensors if each.role is Role.EXPERT and each.tensor.writes_residual]
    assert writers and all(each.lr != before[each.name].lr for each in writers)
    assert losses_of(run, spec) == pytest.approx(losses(started(spec), spec, batches(spec)), rel=1e-9, abs=0)


def test_half_of_a_scale_in_queries_and_half_in_keys() -> None:
    before, run = handoff_of(case("mup-multipliers")), folded(handoff_of(case("mup-multipliers")), both=True)
    for part in ("query", "key"):
        name = f"blocks.0.attention.{part}.weight"
        assert run.by_name[name].lr == pytest.approx(math.sqrt(1.7) * before.by_name[name].lr)
    assert "softmax scale, half of it in the keys ×1.30384" in run.folded


def test_nothing_to_fold_changes_nothing() -> None:
    run = handoff_of(case("sp"))
    assert folded(run) == run and not folded(run).folded


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "adamw_muon"])
def test_a_tensor_twice_as_large_steps_as_the_table_says(optimizer: str) -> None:
    """The abc-symmetry of the tables, which has tests of its own against real optimizers."""
    for each in handoff_of(make_spec(optimizer=optimizer)).tensors:
        d, p, e = each.family.degree, each.family.parameter_degree, each.family.eps_degree or 0
        grown = times(each, 2.0)
        assert grown.init_std == 2 * each.init_std and grown.init_mean == 2 * each.init_mean
        assert grown.multiplier == each.multiplier / 2
        assert grown.lr == each.lr * 2.0 ** (1 + d - p)
        assert grown.lr * grown.weight_decay == pytest.approx(each.lr * each.weight_decay)
        assert (grown.eps is None) == (each.eps is None)
        assert each.eps is None or grown.eps == each.eps * 2.0**-e


def test_positions_are_not_multiplied_with_the_embedding() -> None:
    run, before = folded(handoff_of(case("mup-learned-positions"))), handoff_of(case("mup-learned-positions"))
    assert run.by_name["positions.weight"] == before.by_name["positions.weight"]
    assert run.by_name["embedding.weight"].init_std == pytest.approx(3 * before.by_name["embedding.weight"].init_std)


def test_where_nothing_can_hold_a_factor_it_refuses() -> None:
    with pytest.raises(Refused, match=r"multiplied by 0.5 where it reads out: without a gain of the last norm"):
        folded(handoff_of(case("mup-tied-no-gains")))
    assert folded(handoff_of(case("mup-tied-no-gains")), keep=("tensors",)).tensors
    normed = spec_of(architecture={"qk_norm": True, "norm_gains": "none"}, hparams=MULTIPLIED)
    with pytest.raises(Refused, match=r"softmax scale 0.425 where the framework has 0.25, between normed queries"):
        folded(handoff_of(normed))
    assert folded(handoff_of(normed), attention=0.425).attention == 0.425


def test_a_unit_scaled_recipe_is_refused() -> None:
    spec = make_spec("u_mup", architecture=Architecture(norm_gains="none"))
    with pytest.raises(Refused, match=r"recipe of 'u_mup' is for a network of unit-scaled operations"):
        handoff(recipe_of(spec))


def test_clipping_is_the_one_thing_that_changes() -> None:
    clipped = spec_of(hparams={**MULTIPLIED, "clip_norm": 0.5})
    (note,) = notes(folded(handoff_of(clipped)))
    assert "gradients are clipped at norm 0.5" in note and "embedding multiplier ×3" in note
    assert notes(handoff_of(clipped)) == ()  # nothing is folded
    assert notes(folded(handoff_of(case("mup-multipliers")))) == ()  # nothing is clipped


def test_a_digest_is_that_of_the_recipe() -> None:
    one, other = handoff_of(case("mup")), handoff_of(case("mup-wsd"))
    assert one.digest == handoff_of(case("mup")).digest != other.digest
    assert folded(one).digest == one.digest and one.digest in one.provenance


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_tensor_is_handed_over_once(name: str) -> None:
    run, network = handoff_of(case(name)), started(case(name))
    assert [each.name for each in run.tensors] == list(dict.fromkeys(each.name for each in run.tensors))
    assert {each.name for each in run.tensors} == {name for name, _ in network.named_parameters()}


def unfolded(each: Handed) -> Handed:
    return replace(each, multiplier=1.0)


def test_a_wrong_fold_shows() -> None:
    """Multipliers that are dropped, not folded: the training is another."""
    spec = case("mup-multipliers")
    run = handoff_of(spec)
    dropped = replace(run, tensors=tuple(map(unfolded, run.tensors)), embedding=1.0, residual=1.0, attention=0.25)
    assert losses_of(dropped, spec) != pytest.approx(ours("mup-multipliers"), rel=1e-3)


def test_networks_here_have_no_other_constants() -> None:
    """What `without` sets is all there is: a constant of a new kind has to be handed over too."""
    network = started(case("mup-multipliers"))
    kinds = {(type(m).__name__, name) for m in network.modules() for name in getattr(m, "constants", ())}
    assert kinds == {
        ("Linear", "multiplier"), ("Embedding", "multiplier"), ("Attention", "multiplier"), ("Block", "multiplier"),
        ("Transformer", "z_loss"),
    }  # fmt: skip
