"""Every table with every optimizer that it covers: what claims to transfer passes, what does not fails.

The expectations are what was measured; where a published table does not pass, its line says why.
"""

import pytest

from scalelab.errors import Refused
from scalelab.optimizers import OPTIMIZERS
from scalelab.parametrizations import TABLES
from scalelab.probe import Check, check_lr, coordinate_check
from scalelab.resolve import settings
from tests.probe.sizes import specs

WIDTHS, DEPTHS = (64, 128, 256), (4, 8, 16, 32)

# Tables whose exponents assume that updates do not align with activations. After a few steps they align fully, and
# every layer's change grows by the width^½ that the assumption leaves out (slopes +0.34 to +0.52).
UNALIGNED = ("sp_none", "ntk_none", "mup_none", "mean_field_none")
# SOAP's published exponent is that of one gradient in its own basis. Over several batches entries that are small there
# are normalised to the size of the large ones, and an update is dense, of spectral norm √width (slopes +0.5 to +0.6).
DENSE = [(name, "soap") for name in TABLES if name != "mup_soap_dense"]
COVERED = [
    (name, optimizer)
    for name, rules in TABLES.items()
    for optimizer, kind in OPTIMIZERS.items()
    if any(family is kind.family for _, family in rules.rules)
]


def expected(parametrization: str, optimizer: str, axis: str) -> bool:
    claimed = axis in TABLES[parametrization].transfers
    if axis == "depth":
        return claimed
    return claimed and parametrization not in UNALIGNED and (parametrization, optimizer) not in DENSE


def checked(parametrization: str, optimizer: str, axis: str, values: tuple[int, ...], *, seeds: int = 1) -> Check:
    found = specs(parametrization, axis, values, optimizer=optimizer, seeds=seeds)
    try:
        settings(found[0][0])
    except Refused as refused:
        pytest.skip(str(refused))
    check = coordinate_check(found, axis=axis, steps=4)
    assert check.lr == check_lr(found[0][0])
    return check


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name not in ("soap", "adamw_muon", "shampoo")])
def test_mup_passes_in_width_and_sp_fails(optimizer: str) -> None:
    mup, sp = (checked(name, optimizer, "width", (64, 256)) for name in ("mup", "sp"))
    assert mup.passed, mup.slopes
    assert not sp.passed
    assert max(slope.update for slope in sp.slopes) > 0.4, sp.slopes


@pytest.mark.parametrize("parametrization", ["sp_full", "ntk_full", "mean_field_full"])
def test_any_parametrization_passes_with_its_own_rates(parametrization: str) -> None:
    assert checked(parametrization, "adamw", "width", (64, 256)).passed


@pytest.mark.parametrize("parametrization", UNALIGNED)
def test_rates_for_updates_that_do_not_align_are_too_high_at_first(parametrization: str) -> None:
    check = checked(parametrization, "adamw", "width", (64, 256))
    assert not check.passed
    assert 0.25 < max(slope.update for slope in check.slopes) < 0.7


def test_muon_matched_to_adam_grows_like_the_root_of_width() -> None:
    check = checked("muon_match_rms", "muon", "width", (64, 256))
    hidden = [slope.update for slope in check.slopes if slope.module in ("query", "value", "up")]
    assert all(0.25 < update < 0.75 for update in hidden), check.slopes


def test_soap_grows_like_the_root_of_width_under_its_published_rule() -> None:
    check = checked("mup", "soap", "width", (64, 256))
    hidden = [slope.update for slope in check.slopes if slope.module in ("query", "value", "up")]
    assert all(0.25 < update < 0.75 for update in hidden), check.slopes


def test_soap_passes_at_a_rate_for_dense_updates() -> None:
    assert checked("mup_soap_dense", "soap", "width", (64, 256)).passed


def test_u_mup_slows_the_embedding_by_design_and_nothing_else() -> None:
    """Its Table 2: the embedding's lr ∝ width^-½, where muP's is constant for weights of one size."""
    check = checked("u_mup", "adamw", "width", (64, 256))
    updates = {slope.module: slope.update for slope in check.slopes}
    assert check.passed, check.slopes
    assert updates.pop("embedding") == pytest.approx(-0.5, abs=0.1)
    assert all(abs(update) < 0.25 for module, update in updates.items() if module != "logits"), updates


@pytest.mark.parametrize("parametrization", ["completep", "u_mup"])
def test_depth_tables_pass_in_depth(parametrization: str) -> None:
    assert checked(parametrization, "adamw", "depth", (4, 16)).passed


@pytest.mark.slow
@pytest.mark.parametrize(("parametrization", "optimizer"), COVERED)
def test_in_width(parametrization: str, optimizer: str) -> None:
    check = checked(parametrization, optimizer, "width", WIDTHS, seeds=2)
    assert check.passed == expected(parametrization, optimizer, "width"), check.slopes


@pytest.mark.slow
@pytest.mark.parametrize(("parametrization", "optimizer"), COVERED)
def test_in_depth(parametrization: str, optimizer: str) -> None:
    check = checked(parametrization, optimizer, "depth", DEPTHS, seeds=2)
    assert check.passed == expected(parametrization, optimizer, "depth"), check.slopes
