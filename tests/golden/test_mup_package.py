"""Oracles: the mup package on an MLP and on our own transformer, and the equivalence of TP-V's three tables."""

import copy
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

from scalelab.networks import build
from scalelab.optim import parameter_groups
from scalelab.parametrizations import TABLES, Family, Parametrization, Role
from scalelab.resolve import settings
from scalelab.scale import Power, Ratios
from tests.conftest import make_spec

mup = pytest.importorskip("mup", reason="the mup package: pip install --no-deps mup==1.0.0")

BASE, TARGET, INPUTS, CLASSES, STEPS = 16, 64, 8, 5, 5


class MLP(nn.Module):
    def __init__(self, width: int, readout: type[nn.Linear] = nn.Linear, multiplier: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, width)
        self.hidden = nn.Linear(width, width)
        self.readout = readout(width, CLASSES)
        self.multiplier = multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.hidden(self.first(x).relu()).relu()
        return self.readout(h * self.multiplier if self.multiplier != 1.0 else h)


MLP_ROLES = {
    "first.weight": (Role.EMBEDDING, {"fan_out"}), "first.bias": (Role.BIAS, {"fan_out"}),
    "hidden.weight": (Role.HIDDEN, {"fan_in", "fan_out"}), "hidden.bias": (Role.BIAS, {"fan_out"}),
    "readout.weight": (Role.READOUT, {"fan_in"}), "readout.bias": (Role.BIAS, set()),
}  # fmt: skip


def mlp_groups(model: MLP, table: Parametrization, family: Family, m: int, **base: float) -> list[dict[str, Any]]:
    found = []
    for name, parameter in model.named_parameters():
        role, grows = MLP_ROLES[name]
        ratios = Ratios(**{dimension: Fraction(m) for dimension in grows})
        rule = table.rule(role, family)
        group = {"params": [parameter], "lr": base["lr"] * rule.lr(ratios)}
        group["weight_decay"] = base["weight_decay"] * rule.weight_decay(ratios)
        found.append(group if rule.eps is None else {**group, "eps": base["eps"] * rule.eps(ratios)})
    return found


def train(model: nn.Module, optimizer: torch.optim.Optimizer, dtype: torch.dtype = torch.float32) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(STEPS):
        x = torch.randn(32, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
        y = torch.randint(0, CLASSES, (32,), generator=generator)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_mlp_trajectory_is_bit_equal_to_mup(optimizer: str) -> None:
    torch.manual_seed(0)
    theirs = MLP(TARGET, readout=mup.MuReadout)
    mup.set_base_shapes(theirs, MLP(BASE), delta=MLP(BASE * 2))
    ours = MLP(TARGET, multiplier=BASE / TARGET)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    base = {"lr": 0.02, "weight_decay": 0.1, "eps": 1e-8}
    table, family = TABLES["mup_package"], Family.ADAM if optimizer == "adamw" else Family.SGD
    own_groups = mlp_groups(ours, table, family, TARGET // BASE, **base)
    if optimizer == "adamw":
        their_optimizer = mup.MuAdamW(theirs.parameters(), lr=0.02, weight_decay=0.1)
        our_optimizer: torch.optim.Optimizer = torch.optim.AdamW(own_groups)
    else:
        their_optimizer = mup.MuSGD(theirs.parameters(), lr=0.02, weight_decay=0.1)
        our_optimizer = torch.optim.SGD(own_groups)
    assert train(ours, our_optimizer) == train(theirs, their_optimizer)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_transformer_groups_and_trajectory_equal_mup() -> None:
    spec = make_spec("mup_package", width=128, depth=2, base_width=32)
    ours, theirs = build(spec), build(spec)
    shapes = [build(make_spec("sp", width=width, depth=2, base_width=width)) for width in (32, 64)]
    mup.set_base_shapes(theirs, shapes[0], delta=shapes[1], rescale_params=False)
    their_optimizer = mup.MuAdamW(theirs.parameters(), lr=0.01, weight_decay=0.1, betas=(0.9, 0.95))
    values = {
        id(p): (group["lr"], group["weight_decay"]) for group in their_optimizer.param_groups for p in group["params"]
    }
    named = dict(theirs.named_parameters())
    groups = parameter_groups(ours, settings(spec))
    for group in groups:
        for name in group["names"]:
            lr, decay = values[id(named[name])]
            if name.endswith("gain"):
                decay = 0.0  # we do not decay gains, the package decays whatever it is given
            assert (group["lr"], group["weight_decay"]) == (lr, decay), name
    # The same steps, once the package's groups are told not to decay gains either.
    undecayed = [p for name, p in named.items() if name.endswith("gain")]
    decayed = [p for name, p in named.items() if not name.endswith("gain")]
    their_optimizer = mup.MuAdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": undecayed, "weight_decay": 0.0}],
        lr=0.01,
        betas=(0.9, 0.95),
    )
    our_optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        tokens = torch.randint(0, 256, (4, 17), generator=generator)
        for network, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
            optimizer.zero_grad()
            network.loss(tokens).backward()
            optimizer.step()
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(a, b), name


TABLE_9 = {Role.EMBEDDING: Power(fan_out=Fraction(1, 2)), Role.READOUT: Power(fan_in=Fraction(1, 2))}


@pytest.mark.parametrize("family", [Family.ADAM, Family.SGD])
def test_tables_3_8_and_9_have_one_trajectory(family: Family) -> None:
    """fp64, ε = 1e-30, 5 steps, m = 3: the three forms of TP-V agree to rounding."""
    table_8 = TABLES["mup"]
    losses = []
    for table in (table_8, table_8.folded(), table_8.shifted(TABLE_9)):
        torch.manual_seed(0)
        model = _Multiplied(48).double()
        for name, parameter in model.named_parameters():
            role, grows = MLP_ROLES[name]
            ratios = Ratios(**{dimension: Fraction(3) for dimension in grows})
            rule = table.rule(role, family)
            with torch.no_grad():
                parameter.mul_(rule.init(ratios))
            model.multipliers[name] = rule.multiplier(ratios)
        groups = mlp_groups(model, table, family, 3, lr=0.01, weight_decay=0.1, eps=1e-30)
        optimizer = torch.optim.AdamW(groups) if family is Family.ADAM else torch.optim.SGD(groups)
        losses.append(train(model, optimizer, torch.float64))
    for loss in losses[1:]:
        assert loss == pytest.approx(losses[0], rel=1e-13)


class _Multiplied(MLP):
    """Every parameter with its own forward multiplier."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.multipliers = dict.fromkeys(MLP_ROLES, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = {name: p * self.multipliers[name] for name, p in self.named_parameters()}
        h = nn.functional.linear(x, a["first.weight"], a["first.bias"]).relu()
        h = nn.functional.linear(h, a["hidden.weight"], a["hidden.bias"]).relu()
        return nn.functional.linear(h, a["readout.weight"], a["readout.bias"])
