"""What is refused, and what the message says: what was asked for, and what there is instead."""

from dataclasses import replace
from fractions import Fraction

import pytest

from scalelab.errors import Refused
from scalelab.hparams import Hparams
from scalelab.parametrizations import TABLES, Family, Role, Site
from scalelab.parametrizations.decay import with_policy
from scalelab.resolve import betas, settings
from scalelab.scale import ONE, Power, Ratios
from scalelab.shape import Architecture
from tests.conftest import make_spec

TIED = Architecture(tied_head=True)


@pytest.mark.parametrize(
    ("table", "optimizer", "architecture", "missing", "covered"),
    [
        ("u_mup", "sgd", Architecture(norm_gains="none"), "embedding/sgd", "it covers the families adam"),
        ("depth_mup", "adafactor", Architecture(), "embedding/adafactor", "it covers the families adam, sgd"),
        ("depth_mup", "muon", Architecture(), "hidden/muon", "the families adam, sgd"),
        ("sp_full", "shampoo", Architecture(), "hidden/shampoo", "the families adam, sgd, adafactor"),
        ("completed_p", "sgd", Architecture(), "embedding/sgd", "the families adam"),
        ("completed_p", "adamw", TIED, "tied/adam", r"it covers adam: "),
        ("mup_table_3", "adamw", TIED, "tied/adam", r"adam: embedding, .*readout"),
        ("mup_package", "soap", Architecture(), "hidden/soap", "the families adam, sgd"),
    ],
)
def test_a_table_without_a_rule_names_it_and_what_is_covered(
    table: str, optimizer: str, architecture: Architecture, missing: str, covered: str
) -> None:
    spec = make_spec(table, optimizer=optimizer, architecture=architecture)
    with pytest.raises(Refused, match=rf"^parametrization '{table}' has no rule for {missing}: .*{covered}"):
        settings(spec)


def test_the_second_optimizer_is_refused_before_the_first_has_trained() -> None:
    """mup_package has no rule for Muon: adamw_muon under it is refused at once, not where Muon takes over."""
    with pytest.raises(Refused, match="'mup_package' has no rule for hidden/muon"):
        settings(make_spec("mup_package", optimizer="adamw_muon", schedule="wsd"))


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.sites[Site.RESIDUAL] != ONE])
def test_a_depth_rule_and_a_depth_scaled_init_do_not_mix(name: str) -> None:
    given = {"norm_gains": "none"} if TABLES[name].unit_scaled else {}
    with pytest.raises(Refused, match="depth"):
        make_spec(name, architecture=Architecture(residual_init="depth-scaled", **given))  # type: ignore[arg-type]


@pytest.mark.parametrize("ratio", [Fraction(0), Fraction(-1, 2)])
@pytest.mark.parametrize("name", ["fan_in", "depth", "batch", "tokens", "params"])
def test_a_ratio_is_positive(name: str, ratio: Fraction) -> None:
    with pytest.raises(ValueError, match=f"ratio {name}={ratio} must be positive"):
        Ratios(**{name: ratio})


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_change_of_optimizer_wants_a_schedule_that_says_when(schedule: str) -> None:
    with pytest.raises(
        Refused, match=rf"optimizer 'adamw_muon' with schedule='{schedule}': .* accepted is schedule=wsd"
    ):
        make_spec(optimizer="adamw_muon", schedule=schedule)


def test_nothing_is_left_of_beta_in_a_batch_too_large_for_its_base() -> None:
    """(1 − 0.95)·32 > 1: Complete(d)P's rule has no β2 for 32 times the batch; at 16 times it still does for both."""
    spec = make_spec("completed_p", base_tokens=640, base_batch_tokens=2, hparams={"beta1": 0.99})
    with pytest.raises(Refused, match=r"beta2=0\.95 becomes -0\.6: the table multiplies 1−β by 32 .*smaller batch"):
        betas(spec)
    spec = make_spec("completed_p", base_tokens=640, base_batch_tokens=4, hparams={"beta1": 0.99})
    assert betas(spec) == pytest.approx((0.84, 0.2))


def test_names_that_do_not_exist_are_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match=r"unknown shape.factor 'spectrall'.*did you mean 'spectral'"):
        Hparams(lr=0.1, shape_factor="spectrall")
    with pytest.raises(Refused, match=r"unknown weight_decay_policy 'independant'.*did you mean 'independent'"):
        make_spec(weight_decay_policy="independant")
    with pytest.raises(Refused, match="unknown weight_decay_policy 'wang'"):
        with_policy(TABLES["mup"].rule(Role.HIDDEN, Family.ADAM), Role.HIDDEN, "wang")


def test_a_unit_scaled_table_has_no_base_of_its_own() -> None:
    spec = make_spec("u_mup", architecture=Architecture(norm_gains="none"))
    with pytest.raises(Refused, match="the base of 'u_mup' is the shape of ones"):
        replace(spec, base=spec.shape)
    with pytest.raises(Refused, match="the base of 'mup' is a shape of the model's family"):
        replace(make_spec(), base=spec.base)


def test_a_cell_is_exact() -> None:
    with pytest.raises(TypeError, match="must be an int or a Fraction"):
        Power(fan_in=-0.5)  # type: ignore[arg-type]
