"""Against the mup package, bit for bit, and against our own networks, whose roles are stated and not inferred."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import scalelab
from scalelab.errors import Refused
from scalelab.networks import build
from scalelab.optim import parameter_groups
from scalelab.resolve import settings
from scalelab.shape import Architecture
from tests.conftest import make_spec
from tests.modules.models import LM, MLP, seeded, train

mup = pytest.importorskip("mup", reason="the mup package: pip install --no-deps mup==1.0.0")
VECTORS = ("bias", "norm1.weight", "norm2.weight", "norm.weight")


def their_groups(model: nn.Module) -> list[dict[str, Any]]:
    """mup decays what it is given: it is given the vectors apart."""
    named = dict(model.named_parameters())
    plain = [p for name, p in named.items() if name.endswith(VECTORS)]
    decayed = [p for name, p in named.items() if not name.endswith(VECTORS)]
    return [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]


def fit_mlp(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(5):
        x, y = torch.randn(32, 8, generator=generator), torch.randint(0, 5, (32,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def optimizers(
    name: str, found: scalelab.Parametrized, theirs: nn.Module
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    groups = found.groups(lr=0.02, weight_decay=0.1)
    if name == "adamw":
        return torch.optim.AdamW(groups), mup.MuAdamW(their_groups(theirs), lr=0.02)
    return torch.optim.SGD(groups), mup.MuSGD(their_groups(theirs), lr=0.02)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_mlp_with_biases_starts_and_trains_as_under_mup(optimizer: str) -> None:
    theirs = seeded(MLP, 64, readout=mup.MuReadout)
    mup.set_base_shapes(theirs, MLP(16), delta=MLP(32))
    ours = seeded(MLP, 64)
    found = scalelab.parametrize(ours, "mup_package", base=seeded(MLP, 16, seed=1), optimizer=optimizer)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    our_optimizer, their_optimizer = optimizers(optimizer, found, theirs)
    assert fit_mlp(ours, our_optimizer) == fit_mlp(theirs, their_optimizer)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_transformer_trains_as_under_mup(optimizer: str) -> None:
    theirs = seeded(LM, 64, readout=mup.MuReadout)
    mup.set_base_shapes(theirs, LM(16), delta=LM(32))
    ours = seeded(LM, 64)
    found = scalelab.parametrize(ours, "mup_package", base=lambda: LM(16), optimizer=optimizer, init="keep")
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    our_optimizer, their_optimizer = optimizers(optimizer, found, theirs)
    assert train(ours, our_optimizer) == train(theirs, their_optimizer)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(a, b), name


OWN = {
    "width": {"width": 64},
    "depth": {"width": 64, "depth": 4},
    "biases, uneven ffn": {"width": 64, "architecture": Architecture(mlp="gelu", biases=True), "sizes": {"ffn": 192},
                           "base_sizes": {"ffn": 64}},
    "grouped heads, qk norm": {"width": 128, "architecture": Architecture(qk_norm=True), "sizes": {"kv_heads": 2},
                               "base_sizes": {"kv_heads": 1, "heads": 2}},
    "tied, learned positions": {"width": 64, "architecture": Architecture(tied_head=True, positions="learned")},
    "experts": {"width": 64, "model": "moe", "sizes": {"experts": 4, "top_k": 2},
                "base_sizes": {"experts": 4, "top_k": 2}},
    "vit": {"width": 64, "model": "vit"},
    "resnet": {"width": 64, "model": "resnet"},
}  # fmt: skip


@pytest.mark.parametrize("case", OWN)
@pytest.mark.parametrize("table", ["mup/adamw", "mup/sgd", "mup/muon", "completep/adamw"])
def test_what_is_inferred_for_our_own_networks_is_what_their_inventories_state(case: str, table: str) -> None:
    table, optimizer = table.split("/")
    muons = {"shape_factor": "original", "handed_lr_factor": 0.5} if optimizer == "muon" else {}
    spec = _spec(table, optimizer, hparams=muons, **OWN[case])
    stated = settings(spec)
    network, base = build(spec), build(_base(spec))
    for module in network.modules():
        if hasattr(module, "multiplier"):
            module.multiplier = 1.0  # what is inferred is put there again
    residual = ("blocks.*.branch" if "resnet" in case else "blocks.*.mlp",) if table == "completep" else ()
    found = scalelab.parametrize(
        network, table, base=base, optimizer=optimizer, init="keep", attention="mine", residual=residual
    )
    values = {each.tensor.name: each for each in found.at(lr=0.01, weight_decay=0.1, **muons)}
    assert values.keys() == {each.tensor.name for each in stated}
    for each in stated:
        mine = values[each.tensor.name]
        fields = ("family", "lr", "weight_decay", "eps", "multiplier")
        assert mine.tensor.role is each.tensor.role, each.tensor.name
        assert [getattr(mine, field) for field in fields] == [getattr(each, field) for field in fields], each
        assert mine.tensor.fan_out.ratio == each.tensor.fan_out.ratio
    groups = {frozenset(group["names"]) for group in found.groups(lr=0.01, weight_decay=0.1, **muons)}
    for group in parameter_groups(network, stated):  # theirs are finer: they tell inits apart
        assert any(set(group["names"]) <= names for names in groups)
    assert found.scales.params == spec.scales.params and found.scales.depth == spec.scales.depth


def _spec(table: str, optimizer: str, **options: Any) -> Any:
    try:
        return make_spec(table, optimizer=optimizer, **options)
    except Refused as refused:
        return pytest.skip(str(refused))


def _base(spec: Any) -> Any:
    from dataclasses import replace

    return replace(spec, shape=spec.base)


def test_our_own_transformer_trains_the_same_with_foreign_multipliers() -> None:
    spec = make_spec("mup", width=128, base_width=32)
    stated, foreign = build(spec), build(spec)
    foreign.readout.multiplier = 1.0
    found = scalelab.parametrize(foreign, "mup", base=build(_base(spec)), init="keep", attention="mine")
    pairs = [(stated, parameter_groups(stated, settings(spec))), (foreign, found.groups(lr=0.01, weight_decay=0.1))]
    optimizers = [(network, torch.optim.AdamW(groups, betas=(0.9, 0.95))) for network, groups in pairs]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        tokens = torch.randint(0, 256, (4, 17), generator=generator)
        for network, optimizer in optimizers:
            optimizer.zero_grad()
            network.loss(tokens).backward()
            optimizer.step()
    for (name, a), (_, b) in zip(stated.named_parameters(), foreign.named_parameters(), strict=True):
        assert torch.equal(a, b), name
