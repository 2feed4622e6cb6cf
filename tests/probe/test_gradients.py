"""The gradient check: what was measured of gradients at initialisation, and which tables' eps keeps up with it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scalelab.errors import Refused
from scalelab.probe import GradientCheck, gradient_check
from scalelab.shape import Architecture
from tests.helpers import one_line, scalelab, squeezed
from tests.probe.sizes import specs

WIDTHS, DEPTHS = (64, 128, 256), (4, 8, 16)
FULL = Architecture(mlp="gelu", qk_norm=True, biases=True)


def checked(parametrization: str, axis: str, *, optimizer: str = "adamw", **given: object) -> GradientCheck:
    values = WIDTHS if axis == "width" else DEPTHS
    return gradient_check(specs(parametrization, axis, values, optimizer=optimizer, **given), axis=axis)  # type: ignore[arg-type]


def slopes(check: GradientCheck) -> dict[str, float]:
    return {each.label: each.slope for each in check.classes if each.slope is not None}


@pytest.mark.parametrize(("parametrization", "readout"), [("mup", -1.0), ("mup_table_3", 0.0)])
def test_gradients_fall_like_one_over_width_and_those_of_a_table_3_readout_stay(
    parametrization: str, readout: float
) -> None:
    check = checked(parametrization, "width", architecture=FULL)
    found = slopes(check)
    assert found.pop("readout") == pytest.approx(readout, abs=0.1)
    assert {"gain", "QK gain, block"} <= set(found)
    for label in ("embedding", "hidden, block", "gain, block", "bias, block"):
        assert found[label] == pytest.approx(-1, abs=0.1), label
    assert check.passed, check.classes
    assert {each.label for each in check.classes if each.verdict == "not judged"} == {"gain", "QK gain, block"}


@pytest.mark.parametrize(("parametrization", "alpha"), [("completep", 1.0), ("completep_half", 0.5)])
def test_gradients_fall_like_the_branch_in_the_blocks_only(parametrization: str, alpha: float) -> None:
    check = checked(parametrization, "depth")
    found = slopes(check)
    for label, slope in found.items():
        assert slope == pytest.approx(-alpha if label.endswith("block") else 0, abs=0.2), label
    assert check.passed, check.classes


@pytest.mark.parametrize(
    ("parametrization", "axis", "lagging"),
    [
        # eps left alone: the mup package, and SP, whose gradients fall like the root of width.
        ("mup_package", "width", {"embedding", "gain, block", "hidden, block", "readout"}),
        ("sp", "width", {"embedding", "gain, block", "hidden, block"}),
        # no depth rule for eps, though gradients in the blocks fall with the branches.
        ("depth_mup", "depth", {"gain, block", "hidden, block"}),
    ],
)
def test_an_eps_that_does_not_follow_is_found(parametrization: str, axis: str, lagging: set[str]) -> None:
    check = checked(parametrization, axis)
    assert not check.passed
    assert {each.label for each in check.classes if each.verdict == "eps lags"} == lagging


@pytest.mark.parametrize("form", ["sp", "ntk", "mup", "mean_field"])
def test_eps_derived_from_theory_is_what_gradients_do(form: str) -> None:
    check = checked(f"{form}_full", "width", seeds=1)
    assert check.passed, check.classes
    for each in check.classes:
        if each.verdict != "not judged":
            assert each.slope == pytest.approx(each.eps_exponent, abs=0.12), each


def test_damping_of_matrix_optimizers_is_held_against_the_gradients_norm() -> None:
    check = checked("mup", "width", optimizer="muon", seeds=1)
    (hidden,) = (each for each in check.classes if each.label == "hidden, block")
    assert hidden.family == "muon" and hidden.verdict == "eps follows"
    assert hidden.slope == pytest.approx(0, abs=0.1)


def test_what_gets_no_gradient_is_said_and_not_fitted() -> None:
    check = checked("mup", "width", seeds=1, architecture=Architecture(zero_init_readout=True))
    verdicts = {each.label: each.verdict for each in check.classes}
    assert verdicts["embedding"] == verdicts["hidden, block"] == "no gradient"
    assert verdicts["readout"] == "eps follows"
    assert json.loads(json.dumps(check.as_plain(), allow_nan=False))["passed"] is True


@pytest.mark.parametrize("optimizer", ["sgd", "lion", "adafactor"])
def test_an_optimizer_without_eps_is_refused(optimizer: str) -> None:
    with pytest.raises(Refused, match=rf"optimizer '{optimizer}' has no eps to check: try optimizer=adamw"):
        checked("mup", "width", optimizer=optimizer)


def test_sizes_must_be_two_or_more_with_seeds_alike() -> None:
    one = specs("mup", "width", (64,))
    with pytest.raises(Refused, match="two sizes or more"):
        gradient_check(one, axis="width")
    with pytest.raises(Refused, match="as many seeds"):
        gradient_check([one[0], [replace(one[0][0], seed=5)]], axis="width")


# --- the command ------------------------------------------------------------------------------------------------------

QUICK = ("context=32", "batch_tokens=256", "tokens=2560", "--seeds", "1", "--widths", "64,128")


@pytest.mark.parametrize(("parametrization", "status"), [("mup", 0), ("mup_package", 1)])
def test_the_command_says_so_with_its_exit_status(parametrization: str, status: int, tmp_path: Path) -> None:
    result = scalelab("check", "--gradients", f"parametrization={parametrization}", *QUICK, "-o", str(tmp_path))
    assert result.exit_code == status, result.output
    plain = json.loads((tmp_path / f"gradients_{parametrization}_width.json").read_text())
    assert plain["passed"] is (status == 0) and plain["values"] == [64, 128]
    assert (tmp_path / f"gradients_{parametrization}_width.png").exists()
    text = squeezed(result.stdout)
    for each in plain["classes"]:
        assert f"{each['slope']:+.2f} {each['eps_exponent']:+.2f} {each['verdict']}" in text
    assert f"eps {'follow their' if status == 0 else 'do NOT all follow their'} gradients in width" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "3"], "looks at initialisation"),
        (["--stability"], "one check at a time"),
        (["--target-width", "512"], "a target is for --stability"),
        (["--target-depth", "512"], "--target-depth with --depths"),
        (["--depths", "2,4"], "one axis at a time"),
        (["optimizer=sgd"], "has no eps to check"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    assert said in one_line(scalelab("check", "--gradients", *QUICK, *arguments, "-o", str(tmp_path / "out")))
    assert not list(tmp_path.iterdir())
