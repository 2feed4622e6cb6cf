"""The coordinate check as numbers, both ways: what should pass passes, and what should fail fails."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalelab.errors import Refused
from scalelab.optimizers import OPTIMIZERS
from scalelab.probe import TOLERANCE, Check, Slope, coordinate_check
from tests.helpers import one_line, scalelab, squeezed
from tests.probe.sizes import specs

WIDTHS, DEPTHS = (64, 128, 256), (4, 8, 16, 32)
MODULES = (
    "embedding", "query", "key", "value", "attention out", "up", "mlp out", "residual stream", "logits",
)  # fmt: skip


def checked(parametrization: str, axis: str, values: Sequence[int], *, steps: int = 4, **given: Any) -> Check:
    return coordinate_check(specs(parametrization, axis, values, **given), axis=axis, steps=steps)


def slopes(check: Check) -> dict[str, Slope]:
    return {slope.module: slope for slope in check.slopes}


def test_mup_passes_in_width_and_every_module_is_judged() -> None:
    check = checked("mup", "width", WIDTHS)
    assert check.passed, check.slopes
    assert check.modules == MODULES
    assert all(slope.verdict == "ok" for slope in check.slopes)
    assert all(abs(slope.update) < 0.2 for slope in check.slopes)  # with room to the tolerance


def test_sp_fails_in_width_because_its_updates_grow() -> None:
    check = checked("sp", "width", WIDTHS)
    assert not check.passed
    found = slopes(check)
    for module in ("query", "value", "mlp out", "residual stream", "logits"):
        assert found[module].verdict == "grows"
        assert found[module].update > 0.35, found[module]
    assert found["embedding"].verdict == "ok"  # its step does not depend on width


@pytest.mark.parametrize("parametrization", ["completep", "completep_half", "depth_mup"])
def test_what_transfers_in_depth_passes_in_depth(parametrization: str) -> None:
    check = checked(parametrization, "depth", DEPTHS)
    assert check.passed, check.slopes
    judged = {slope.module for slope in check.slopes if slope.verdict != "not judged"}
    assert judged == {"residual stream", "logits"}


@pytest.mark.parametrize("parametrization", ["mup", "sp"])
def test_width_alone_fails_in_depth(parametrization: str) -> None:
    check = checked(parametrization, "depth", DEPTHS)
    assert not check.passed
    assert slopes(check)["residual stream"].verdict == "grows"
    assert slopes(check)["residual stream"].update > 2 * TOLERANCE


def test_slopes_are_those_of_a_least_squares_line() -> None:
    check = checked("mup", "width", (32, 64), steps=2)
    index = check.modules.index("logits")
    assert check.activation.shape == check.update.shape == (2, 2, 2, len(MODULES))
    for sizes, slope in ((check.activation, "activation"), (check.update, "update")):
        each = [np.log2(sizes[1, seed, -1, index] / sizes[0, seed, -1, index]) for seed in range(2)]
        assert getattr(slopes(check)["logits"], slope) == pytest.approx(np.mean(each))
        assert getattr(slopes(check)["logits"], f"se_{slope}") == pytest.approx(np.std(each, ddof=1) / np.sqrt(2))


def test_a_network_that_does_not_survive_is_refused() -> None:
    with pytest.raises(Refused, match=r"diverged within 4 steps.*lower the lr"):
        checked("sp", "width", (32, 64), hparams={"lr": 1e20})


def test_it_is_the_same_each_time() -> None:
    one, other = (checked("mup", "width", (32, 64), steps=2, seeds=1) for _ in range(2))
    assert one.as_plain() == other.as_plain()
    assert all(slope.se_update is None for slope in one.slopes)


# --- the command ------------------------------------------------------------------------------------------------------

QUICK = ("context=32", "batch_tokens=256", "tokens=2560")


@pytest.mark.parametrize(("parametrization", "status"), [("mup", 0), ("sp", 1)])
def test_the_command_says_so_with_its_exit_status(parametrization: str, status: int, tmp_path: Path) -> None:
    result = scalelab(
        "check", f"parametrization={parametrization}", *QUICK, "--widths", "64,128,256", "--seeds", "2",
        "-o", str(tmp_path),
    )  # fmt: skip
    assert result.exit_code == status, result.output
    plain = json.loads((tmp_path / f"check_{parametrization}_width.json").read_text())
    assert plain["passed"] is (status == 0)
    assert (plain["parametrization"], plain["axis"], plain["values"]) == (parametrization, "width", [64, 128, 256])
    assert plain["lr"] == OPTIMIZERS["adamw"].check_lr and plain["optimizer"] == "adamw"
    assert [slope["module"] for slope in plain["slopes"]] == plain["modules"] == list(MODULES)
    assert np.array(plain["update"]).shape == (3, 2, 4, len(MODULES))
    assert {"svg", "png"} <= {file.suffix[1:] for file in tmp_path.iterdir()}
    text = squeezed(result.stdout)
    for slope in plain["slopes"]:
        row = f"{slope['module']} {slope['activation']:+.2f} ± {slope['se_activation']:.2f} {slope['update']:+.2f}"
        assert row in text
    assert f"{parametrization} {'passes' if status == 0 else 'FAILS'} in width" in text


def test_depths_can_be_checked(tmp_path: Path) -> None:
    result = scalelab(
        "check", "parametrization=mup", "width=32", *QUICK, "--depths", "16,4", "--seeds", "1", "-o", str(tmp_path)
    )
    assert result.exit_code == 1, result.output
    plain = json.loads((tmp_path / "check_mup_depth.json").read_text())
    assert plain["values"] == [4, 16] and plain["axis"] == "depth"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--widths", "64"], "a slope needs two sizes or more"),
        (["--widths", "64,64"], "a slope needs two sizes or more"),
        (["--widths", "64,many"], "accepted are whole numbers separated by commas"),
        (["--depths", "2"], "a slope needs two sizes or more"),
        (["--widths", "64,50"], "head_dim=32 does not divide width=50"),
        (["parametrization=mupp"], "unknown parametrization 'mupp'"),
        (["lr=1e30", "--widths", "32,64"], "lower the lr"),
        (["-m"], "check takes no -m"),
        (["--frob"], "unknown option --frob"),
        (["lr=0.1,0.2", "--widths", "32,64"], "check takes one value a key"),  # once averaged over like seeds
        (["parametrization=sp,mup", "--widths", "32,64"], "6 runs for 3 seeds"),
        (["width=64", "--widths", "32,64"], "the smallest is the base"),
        (["base.width=64", "--widths", "32,64"], "the smallest is the base"),
        (["seed=3", "--widths", "32,64"], "--seeds says how many"),
        (["--widths", "32,64", "--depths", "2,4"], "one axis at a time"),
        (["--widths", "32,64", "-o", "/dev/null/check"], "/dev/null/check"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in one_line(scalelab("check", *QUICK, *arguments))
    assert not list(tmp_path.iterdir())
