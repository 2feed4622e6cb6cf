"""What every registered parametrization must satisfy; a new table in `TABLES` inherits these."""

from itertools import product

import pytest
import torch

from scalelab.errors import Refused
from scalelab.models import build
from scalelab.optim import parameter_groups
from scalelab.parametrizations import TABLES, Family, Parametrization, Role, Site
from scalelab.resolve import groups, multipliers, settings
from scalelab.scale import Ratios
from scalelab.shape import Architecture
from scalelab.spec import FAMILIES
from tests.conftest import make_spec

tables = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
OPTIMIZERS = {"adamw": Family.ADAM, "sgd": Family.SGD}


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
        assert (rule.eps is None) == (family is Family.SGD)


@tables
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_at_the_base_it_is_sp_bit_for_bit(table: Parametrization, optimizer: str) -> None:
    specs = [make_spec(name, width=32, depth=2, optimizer=optimizer) for name in (table.name, "sp")]
    assert FAMILIES[optimizer] is OPTIMIZERS[optimizer]
    assert settings(specs[0]) == settings(specs[1])
    assert multipliers(specs[0]) == multipliers(specs[1])
    ours, sp = build(specs[0]), build(specs[1])
    for (name, a), (_, b) in zip(ours.named_parameters(), sp.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    tokens = torch.arange(32).reshape(2, 16)
    assert torch.equal(ours(tokens), sp(tokens))


@tables
@pytest.mark.parametrize(
    "architecture",
    [Architecture(), Architecture(tied_head=True), Architecture(biases=True, qk_norm=True)],
    ids=["plain", "tied", "biases+qk_norm"],
)
def test_parameter_groups_are_a_partition(table: Parametrization, architecture: Architecture) -> None:
    for optimizer in OPTIMIZERS:
        spec = make_spec(table.name, width=64, depth=4, optimizer=optimizer, architecture=architecture)
        network = build(spec)
        found = parameter_groups(network, spec)
        grouped = [id(p) for group in found for p in group["params"]]
        assert sorted(grouped) == sorted(id(p) for p in network.parameters())
        names = [name for group in groups(settings(spec)) for name in group.names]
        assert sorted(names) == sorted(name for name, _ in network.named_parameters())


@tables
def test_folding_leaves_no_multiplier_and_refuses_tied_heads(table: Parametrization) -> None:
    folded = table.folded()
    assert all(rule.multiplier(Ratios()) == 1.0 for rule in folded.rules.values())
    assert {rule.multiplier for rule in folded.rules.values()} == {folded.rules[Role.HIDDEN, Family.ADAM].multiplier}
    with pytest.raises(Refused, match="no rule for tied/adam"):
        folded.rule(Role.TIED, Family.ADAM)


@tables
def test_shifting_there_and_back_is_the_identity(table: Parametrization) -> None:
    from scalelab.scale import Power

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
            with pytest.raises(Refused, match="it covers hidden/adam"):
                bare.rule(role, family)
