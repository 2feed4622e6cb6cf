"""What every registered parametrization must satisfy; a new table in `TABLES` inherits these."""

from itertools import product

import pytest
import torch

from scalelab.errors import Refused
from scalelab.models import inventory
from scalelab.networks import build
from scalelab.optim import optimizers
from scalelab.optimizers import OPTIMIZERS, optimizer_kind
from scalelab.parametrizations import TABLES, Family, Parametrization, Role, Site
from scalelab.resolve import groups, multipliers, settings
from scalelab.scale import ONE, Power, Ratios
from scalelab.shape import Architecture
from tests.conftest import make_spec

tables = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
relative = pytest.mark.parametrize("table", [t for t in TABLES.values() if not t.unit_scaled], ids=lambda t: t.name)
ARCHITECTURES = {
    "plain": Architecture(),
    "tied": Architecture(tied_head=True),
    "biases+qk_norm": Architecture(biases=True, qk_norm=True),
    "scalar gains+learned positions": Architecture(norm_gains="scalar", positions="learned"),
}


def covered(table: Parametrization, optimizer: str, architecture: Architecture) -> bool:
    """Whether the table has a rule for every tensor of that transformer under that optimizer; if not, it refuses."""
    kind = optimizer_kind(optimizer)
    given = {"hparams": {"shape_factor": "spectral"}, "schedule": "wsd" if kind.then else "linear"}
    spec = make_spec(table.name, optimizer=optimizer, architecture=architecture, **given)
    kinds = [kind, *([optimizer_kind(kind.then)] if kind.then else [])]
    needed = {(tensor.role, kind.family_of(tensor.role)) for kind in kinds for tensor in inventory(spec)}
    missing = needed - table.rules.keys()
    if missing:
        with pytest.raises(Refused, match=f"{table.name!r} has no rule for"):
            settings(spec)
    return not missing


@tables
def test_is_named_as_registered_and_cites_its_source(table: Parametrization) -> None:
    assert TABLES[table.name] is table
    assert "arXiv:" in table.source or "microsoft/mup" in table.source
    assert table.title
    assert set(table.sites) == set(Site)


@tables
def test_every_cell_is_one_at_the_base(table: Parametrization) -> None:
    for rule in table.rules.values():
        cells = [rule.multiplier, rule.init, rule.lr, rule.weight_decay, *([rule.eps] if rule.eps else [])]
        assert all(cell(Ratios()) == 1.0 for cell in cells)
    assert all(cell(Ratios()) == 1.0 for cell in table.sites.values())


@tables
def test_eps_stands_where_the_optimizer_has_one(table: Parametrization) -> None:
    for (_, family), rule in table.rules.items():
        assert (rule.eps is None) == (family.eps_degree is None)
        assert rule.eps_input is None or family is Family.KFAC


@relative
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_at_the_base_it_is_sp_bit_for_bit(table: Parametrization, optimizer: str) -> None:
    if not covered(table, optimizer, Architecture()):
        return
    given = {"width": 32, "depth": 2, "optimizer": optimizer, "architecture": Architecture()}
    given["schedule"] = "wsd" if optimizer_kind(optimizer).then else "linear"
    specs = [make_spec(name, **given) for name in (table.name, "sp")]
    assert settings(specs[0]) == settings(specs[1])
    assert multipliers(specs[0]) == multipliers(specs[1])
    ours, sp = build(specs[0]), build(specs[1])
    for (name, a), (_, b) in zip(ours.named_parameters(), sp.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    tokens = torch.arange(32).reshape(2, 16)
    assert torch.equal(ours(tokens), sp(tokens))


@relative
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=list(ARCHITECTURES))
def test_parameter_groups_are_a_partition(table: Parametrization, architecture: Architecture) -> None:
    for optimizer in OPTIMIZERS:
        if not covered(table, optimizer, architecture):
            continue
        schedule = "wsd" if optimizer_kind(optimizer).then else "linear"
        spec = make_spec(
            table.name, width=64, depth=4, optimizer=optimizer, architecture=architecture, schedule=schedule
        )
        network = build(spec)
        for optims in (optimizers(network, spec), optimizers(network, spec, then=True)):
            grouped = [id(p) for optim in optims for group in optim.param_groups for p in group["params"]]
            assert sorted(grouped) == sorted(id(p) for p in network.parameters())
        names = [name for group in groups(settings(spec)) for name in group.names]
        assert sorted(names) == sorted(name for name, _ in network.named_parameters())


@tables
def test_folding_leaves_no_multiplier_and_refuses_tied_heads(table: Parametrization) -> None:
    folded = table.folded()
    assert all(rule.multiplier == ONE for rule in folded.rules.values())
    with pytest.raises(Refused, match="no rule for tied/adam"):
        folded.rule(Role.TIED, Family.ADAM)


@tables
def test_shifting_there_and_back_is_the_identity(table: Parametrization) -> None:
    theta = {Role.READOUT: Power(fan_in=1), Role.EMBEDDING: Power(fan_out=-1, depth=1)}
    back = {role: power**-1 for role, power in theta.items()}
    again = table.shifted(theta).shifted(back)
    for key, rule in again.rules.items():
        assert rule == table.rules[key]


def test_digests_tell_tables_apart() -> None:
    assert len({table.digest for table in TABLES.values()}) == len(TABLES)


def test_absent_cells_refuse_and_say_what_is_covered() -> None:
    from dataclasses import replace

    bare = replace(TABLES["mup"], rules={(Role.HIDDEN, Family.ADAM): TABLES["mup"].rules[Role.HIDDEN, Family.ADAM]})
    for role, family in product(Role, Family):
        if (role, family) != (Role.HIDDEN, Family.ADAM):
            with pytest.raises(Refused, match=r"it covers (adam: hidden|the families adam)$"):
                bare.rule(role, family)
