"""Tables against each other modulo the abc-symmetry: forms of one are equal, what was changed is found."""

import io
import re
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from scalelab import show_tables
from scalelab.compare import COLUMNS, Difference, difference, reference, trained_by
from scalelab.errors import Refused
from scalelab.parametrizations import PUBLISHED, TABLES, Family, Parametrization, Role, Site
from scalelab.parametrizations.table import UNDECAYED
from scalelab.scale import RATIO_NAMES, Factor, Power
from tests.helpers import one_line, scalelab, squeezed

exponents = st.fractions(min_value=-2, max_value=2, max_denominator=2)
powers = st.dictionaries(st.sampled_from(RATIO_NAMES), exponents, max_size=3).map(lambda found: Power(**found))
moving = powers.filter(lambda power: power != Power())
tables = st.sampled_from(list(TABLES.values()))
thetas = st.dictionaries(st.sampled_from([role for role in Role if role is not Role.TIED]), powers)


def odd(found: Difference) -> set[tuple[str, str]]:
    """(family, column) wherever a cell differs."""
    return {(str(cell.family), cell.column) for cell in found.differing}


@given(tables, thetas)
def test_a_table_equals_every_shifted_form_of_itself(table: Parametrization, theta: dict[Role, Power]) -> None:
    found = difference(table, table.shifted(theta))
    assert found.equal and found.verdict == "equal modulo the symmetry"
    assert {role for role, _ in found.only_a} <= {Role.TIED} and not found.only_b
    again = difference(table.shifted(theta), table)
    assert again.equal and again.only_b == found.only_a


@given(tables, thetas, moving, st.data())
def test_a_changed_exponent_is_found(
    table: Parametrization, theta: dict[Role, Power], change: Power, data: st.DataObject
) -> None:
    """In any column of any role and family, and nowhere else, however the other form is shifted."""
    key = data.draw(st.sampled_from(sorted(table.rules)))
    role, family = key
    rule = table.rules[key]
    meant = [c for c in COLUMNS if c != "multiplier" and getattr(rule, c) is not None]
    column = data.draw(st.sampled_from([c for c in meant if c != "weight_decay" or role not in UNDECAYED]))
    other = replace(table, rules={**table.rules, key: replace(rule, **{column: getattr(rule, column) * change})})
    found = difference(table, other if role is Role.TIED else other.shifted(theta))
    assert [(cell.role, cell.family, cell.column) for cell in found.differing] == [(role, family, column)]
    assert not found.equal and "equal but for" in found.verdict


@given(tables, moving)
def test_a_changed_site_is_found(table: Parametrization, change: Power) -> None:
    moved = table.sites[Site.RESIDUAL] * change
    found = difference(table, replace(table, sites={**table.sites, Site.RESIDUAL: moved}))
    assert [site.name for site in found.sites if not site.equal] == ["residual branch"]
    assert not found.equal and found.verdict == "equal but for residual branch"


@pytest.mark.parametrize("one", ["mup", "mup_table_3", "mup_table_9"])
@pytest.mark.parametrize("other", ["mup", "mup_table_3", "mup_table_9", "completed_p_mup"])
def test_forms_of_one_parametrization_are_equal(one: str, other: str) -> None:
    assert difference(reference(one), reference(other)).equal


def test_what_the_published_tables_disagree_about() -> None:
    """Stated in their papers and codes; found here from the cells alone."""
    mup = TABLES["mup"]
    assert odd(difference(mup, TABLES["mup_package"])) == {("adam", "eps")}
    assert odd(difference(TABLES["depth_mup"], TABLES["completep_half"], optimizer="adamw")) == {("adam", "eps")}
    assert odd(difference(TABLES["depth_mup"], TABLES["completep_half"])) == {("adam", "eps"), ("sgd", "weight_decay")}
    assert odd(difference(mup, TABLES["completep"], optimizer="adamw")) == {("adam", "eps")}
    assert odd(difference(mup, TABLES["muon_original"])) == {("muon", "lr"), ("muon", "weight_decay")}
    full = difference(mup, TABLES["mup_full"])
    assert odd(full) == {(family, "weight_decay") for family in ("adam", "sgd", "adafactor")} | {("sgd", "lr")}
    assert all(cell.equal_on_square for cell in full.differing if cell.column == "lr")
    assert [site.name for site in full.sites if not site.equal] == ["attention logits"]
    assert odd(difference(TABLES["mup_full"], TABLES["mean_field_full"], optimizer="adamw")) == {
        ("adam", "weight_decay")
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_references_are_mup_but_for_eps_and_weight_decay(name: str) -> None:
    found = difference(TABLES["mup"], PUBLISHED[name], optimizer="adamw")
    allowed = {"eps", "weight_decay"}
    for cell in found.differing:
        assert cell.column in allowed or (name, cell.role, cell.column) == ("megatron", Role.ROUTER, "init")
    assert all(site.equal for site in found.sites)
    assert PUBLISHED[name].name == name and re.search(r"arXiv:\d|microsoft/mup", PUBLISHED[name].source)


@pytest.mark.parametrize(
    ("name", "eps", "decay"),
    [
        ("tp_v", (-1, -1, -1, -1), 0),
        ("mup_package", (0, 0, 0, 0), 1),
        ("megatron", (0, -1, 0, 0), 0),
        ("lingle", (0, -1, None, -2), 1),  # stated at -1 in Table 3 form, where the readout's gradient is m as large
        ("completep_mup", (0, -1, -1, 0), 1),
        ("completed_p_mup", (-1, -1, -1, -1), 1),
        ("nanogpt_mup", (0, 0, 0, 0), 0),
    ],
)
def test_published_eps_and_weight_decay(name: str, eps: tuple[int | None, ...], decay: int) -> None:
    """Exponents in width of embedding, hidden, gain, readout in Table 8's form; of the hidden weight decay."""
    from scalelab.catalogue_tables import table_8

    at = table_8(PUBLISHED[name])
    roles = (Role.EMBEDDING, Role.HIDDEN, Role.GAIN, Role.READOUT)
    found = [at[role].eps if role in at else None for role in roles]
    width = [None if cell is None else cell.exponent("fan_in") + cell.exponent("fan_out") for cell in found]
    assert width == list(eps)
    assert at[Role.HIDDEN].weight_decay == Power(fan_in=decay)


def test_factors_are_compared_by_name() -> None:
    rule = TABLES["mup"].rules[Role.HIDDEN, Family.MUON]

    def with_factor(name: str) -> Parametrization:
        factor = Factor(name=name, function=lambda ratios: 1.0)
        rules = {**TABLES["mup"].rules, (Role.HIDDEN, Family.MUON): replace(rule, lr=factor)}
        return replace(TABLES["mup"], rules=rules)

    assert difference(with_factor("one"), with_factor("one")).equal
    assert odd(difference(with_factor("one"), with_factor("two"))) == {("muon", "lr")}
    assert odd(difference(with_factor("one"), TABLES["mup"])) == {("muon", "lr")}


def test_what_only_one_covers_is_said() -> None:
    found = difference(TABLES["mup"], TABLES["u_mup"])
    assert {family for _, family in found.only_a} == set(Family)
    assert not found.only_b
    assert any("unit-scaled" in note for note in found.notes)
    for a, b in (("u_mup", "mup"), ("mup", "u_mup")):  # once "equal but for …" of the cells beside the matrices
        with pytest.raises(Refused, match="'u_mup' has no rule for hidden/muon"):
            difference(TABLES[a], TABLES[b], optimizer="muon")
    mup = TABLES["mup"]
    parts = [
        replace(mup, rules={key: rule for key, rule in mup.rules.items() if key[1] is family})
        for family in (Family.ADAM, Family.SGD)
    ]
    nothing = difference(*parts)
    assert not nothing.cells and not nothing.equal and "nothing in common" in nothing.verdict


def test_an_optimizer_needs_its_own_cells() -> None:
    assert trained_by("adamw") == {(role, Family.ADAM) for role in Role}
    muon = trained_by("muon")
    assert (Role.HIDDEN, Family.MUON) in muon and (Role.READOUT, Family.ADAM) in muon
    assert (Role.READOUT, Family.MUON) not in muon
    assert trained_by("adamw_muon") == trained_by("adamw") | trained_by("muon")
    with pytest.raises(Refused, match="did you mean 'adamw'"):
        trained_by("adamwx")


@given(tables, tables)
def test_every_difference_is_printed(a: Parametrization, b: Parametrization) -> None:
    found = difference(a, b)
    console = Console(file=io.StringIO(), width=200)
    show_tables.difference(found, console)
    assert isinstance(console.file, io.StringIO)
    text = squeezed(console.file.getvalue())
    assert f"{a.name} and {b.name}: {squeezed(found.verdict)}" in text
    lines = [squeezed(line) for line in console.file.getvalue().splitlines()]
    for cell in found.differing:
        ends = [show_tables.written(at) for at in (cell.a, cell.b)]
        assert any(str(cell.role) in line and " ".join(ends) in line for line in lines), cell


def test_the_command_compares_and_refuses() -> None:
    same = scalelab("compare", "mup", "mup_table_9")
    assert same.exit_code == 0 and "mup and mup_table_9: equal modulo the symmetry" in squeezed(same.stdout)
    eps = scalelab("compare", "mup", "lingle", "--optimizer", "adamw")
    assert "equal but for eps (adam)" in eps.stdout and "weight decay" in eps.stdout
    assert max(len(line.rstrip()) for line in eps.stdout.splitlines()) <= 120
    assert "did you mean 'mup'" in one_line(scalelab("compare", "mupp", "mup"))
    assert "unknown optimizer" in one_line(scalelab("compare", "mup", "sp", "--optimizer", "adan"))


def test_exponents_stay_exact() -> None:
    cell = difference(TABLES["mup"], TABLES["depth_mup"], optimizer="adamw").differing[0]
    assert isinstance(cell.b, Power) and cell.b.exponent("depth") == Fraction(-1, 2)
