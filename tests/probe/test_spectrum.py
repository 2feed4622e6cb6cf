"""Top singular values: the invariant as arithmetic, and what small proxies make of it in their steady state."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalelab.errors import Refused
from scalelab.probe import Spectrum, spectrum
from scalelab.probe.spectrum import invariant
from scalelab.resolve import settings
from scalelab.shape import Architecture
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, squeezed
from tests.probe.sizes import specs


@pytest.mark.parametrize("width", [64, 128, 512])
def test_root_width_keeps_the_invariant_and_the_other_policies_do_not(width: int) -> None:
    values = {}
    for policy in ("root_width", "independent", "constant"):
        found = []
        for at in (32, width):
            spec = make_spec("mup", width=at, weight_decay_policy=policy, hparams={"weight_decay": 0.2, "lr": 0.02})
            (query,) = (s for s in settings(spec) if s.tensor.name == "blocks.0.attention.query.weight")
            found.append(invariant(query.lr, query.weight_decay, at / 32))
        values[policy] = found[1] / found[0]
    m = width / 32
    assert values["root_width"] == pytest.approx(1.0)  # √(η/λ)·m^¾ with η ∝ 1/m, λ ∝ √m
    assert values["independent"] == pytest.approx(m**-0.25)
    assert values["constant"] == pytest.approx(m**0.25)


def run(policy: str, *, widths: tuple[int, ...], steps: int, **given: Any) -> Spectrum:
    hparams = {"lr": 0.02, "weight_decay": 1.0}
    made = specs("mup", "width", widths, steps=steps, weight_decay_policy=policy, hparams=hparams, **given)
    return spectrum(made, steps=steps)


def test_what_is_recorded() -> None:
    found = run("root_width", widths=(32, 64), steps=3, seeds=1)
    by_name = {matrix.name: matrix for matrix in found.matrices}
    assert {"embedding.weight", "blocks.*.attention.query.weight", "readout.weight"} <= set(by_name)
    assert found.steps == (0, 1, 2, 3)
    query = by_name["blocks.*.attention.query.weight"]
    assert query.top.shape == query.stable_rank.shape == (2, 1, 4)
    # At the start a square Gaussian matrix of variance 1/n: σ1 → 2, ‖W‖²_F = n, so a stable rank of about n/4.
    np.testing.assert_allclose(query.top[:, 0, 0], 2.0, rtol=0.15)
    np.testing.assert_allclose(query.stable_rank[:, 0, 0], [8, 16], rtol=0.35)
    assert query.invariant == pytest.approx(0.0, abs=1e-6) and query.ratio == pytest.approx(query.slope)
    assert query.time_scales == pytest.approx(3 * 0.02 / 2 * math.sqrt(2)) and not query.settled
    assert by_name["embedding.weight"].invariant is None  # not decayed under root_width
    assert json.loads(json.dumps(found.as_plain(), allow_nan=False))["weight_decay_policy"] == "root_width"


def test_a_run_that_diverges_is_refused() -> None:
    given = specs("sp", "width", (32, 64), seeds=1, steps=4, hparams={"lr": 1e20, "clip_norm": None})
    with pytest.raises(Refused, match="lower the lr"):
        spectrum(given, steps=4)


@pytest.mark.slow
def test_in_steady_state_attention_is_near_the_published_exponents() -> None:
    # One block, widths 32 to 128, runs of two to eight times 1/(η·λ). Slopes of σ1, a mean over attention's matrices,
    # beside that of √(η/λ)·d^¾: root_width +0.11 (0), independent −0.23 (−¼), constant +0.24 (+¼); the MLP's are up to
    # 0.3 above. Two blocks with SwiGLU leave independent at −0.03: proxies as small as these confirm the order of the
    # policies and no more.
    slopes = {}
    for policy, expected in (("root_width", 0.0), ("independent", -0.25), ("constant", 0.25)):
        found = run(policy, widths=(32, 64, 128), steps=400, seeds=2, depth=1, architecture=Architecture(mlp="gelu"))
        attention = [matrix for matrix in found.matrices if ".attention." in matrix.name]
        assert all(matrix.invariant == pytest.approx(expected, abs=0.01) for matrix in attention)
        slopes[policy] = float(np.mean([matrix.slope for matrix in attention]))
        assert slopes[policy] == pytest.approx(expected, abs=0.25), slopes
    assert slopes["independent"] < slopes["root_width"] < slopes["constant"], slopes


# --- the command ------------------------------------------------------------------------------------------------------

QUICK = (
    "context=32", "batch_tokens=256", "schedule=constant", "lr=0.02", "optimizer.weight_decay=1",
    "weight_decay_policy=root_width", "--seeds", "1", "--widths", "32,64",
)  # fmt: skip


def test_the_command(tmp_path: Path) -> None:
    result = scalelab("check", "--spectrum", *QUICK, "tokens=1024", "-o", str(tmp_path))
    assert result.exit_code == 1, result.output  # too short a run to tell
    plain = json.loads((tmp_path / "spectrum_mup_width.json").read_text())
    assert (plain["weight_decay_policy"], plain["steps"], plain["passed"]) == ("root_width", [0, 1, 2, 3, 4], False)
    assert (tmp_path / "spectrum_mup_width.svg").exists()
    text = squeezed(result.stdout)
    for each in plain["matrices"]:
        assert not each["settled"] and f"{each['time_scales']:.1f} {each['verdict']}" in text
    assert "the start is still seen" in text and "do NOT all stay" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stability"], "--stability with --spectrum: one check at a time"),
        (["--depths", "2,4"], "one axis at a time"),
        (["tokens=1024", "--steps", "5"], "5 steps of a run of 4"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    assert said in one_line(scalelab("check", "--spectrum", *QUICK, *arguments, "-o", str(tmp_path)))


def test_spectra_are_along_width(tmp_path: Path) -> None:
    said = one_line(scalelab("check", "--spectrum", "--depths", "2,4", "tokens=1024", "-o", str(tmp_path)))
    assert "--spectrum is along width: give --widths" in said
