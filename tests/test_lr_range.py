"""The learning-rate range test: bounds of curves that are known, of networks, and the command."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scalelab.errors import Refused
from scalelab.lr_range import Curve, LrRange, lr_range
from scalelab.lr_range.bounds import MOVED, bounds
from scalelab.lr_range.curve import averaged, rates, smoothed
from scalelab.plots.ranges import lr_range as draw
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, squeezed

STEPS = 200
LOG10_LR = np.linspace(-5, 1, STEPS)


def curve(fall: float = 3.0, *, falls_at: float = -3.0, rises_at: float = -0.5, noise: float = 0.0) -> Curve:
    """A loss of 6 nats that falls along a logistic around one log10 lr and rises, without end, around another."""
    rng = np.random.default_rng(0)
    clean = 6.0 - fall / (1 + np.exp(-6 * (LOG10_LR - falls_at))) + fall * np.exp(6 * (LOG10_LR - rises_at))
    losses = [6.0, *(clean + noise * rng.standard_normal(STEPS))]
    ended = next((step for step, loss in enumerate(losses) if loss > 7.0), len(losses))
    return averaged([losses[:ended]], 10.0**LOG10_LR)


def test_bounds_are_where_a_tenth_is_gained_and_lost() -> None:
    found = bounds(curve(), label="")
    assert math.log10(found.lower) == pytest.approx(-3 - math.log(1 / MOVED - 1) / 6, abs=0.2)
    assert math.log10(found.steepest) == pytest.approx(-3, abs=0.1)
    assert math.log10(found.upper) == pytest.approx(-0.5 + math.log(MOVED) / 6, abs=0.2)
    assert not found.fell_at_once


def test_noise_moves_bounds_little_and_is_measured() -> None:
    clean, noisy = curve(), curve(noise=0.1)
    assert noisy.scatter_nats == pytest.approx(0.1, rel=0.25) and clean.scatter_nats < 0.03
    for name in ("lower", "upper"):
        moved = math.log10(getattr(bounds(noisy, label=""), name) / getattr(bounds(clean, label=""), name))
        assert abs(moved) < 0.25


def test_smoothing_does_not_lag() -> None:
    """A step stays where it is; a moving average from the left alone would bring it its time constant too late."""
    smooth = smoothed(np.where(np.arange(100) < 50, 1.0, 0.0), 10.0)
    assert np.flatnonzero(smooth < 0.5)[0] == 50
    np.testing.assert_allclose(smooth, 1 - smooth[::-1])


def test_a_sudden_divergence_is_an_upper_bound() -> None:
    whole = curve(rises_at=5.0)
    cut = averaged([[6.0, *whole.loss_T[:150]]], 10.0**LOG10_LR)
    assert cut.diverged and bounds(cut, label="").upper == cut.lr_T[-1] < cut.ended_lr


def test_the_mean_ends_where_the_first_seed_does() -> None:
    found = averaged([[3.0, 2.0, 1.0, 0.0], [4.0, 3.0]], np.array([0.1, 0.2, 0.3]))
    assert (found.lr_T.tolist(), found.loss_T.tolist(), found.start_nats) == ([0.1], [2.5], 3.5)
    assert found.diverged and found.ended_lr == 0.2


def test_what_falls_at_once_is_said() -> None:
    assert bounds(curve(falls_at=-5.5), label="").fell_at_once


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (curve(rises_at=5.0), r"^width 8: the loss never rose again up to 10: raise --highest$"),
        (
            curve(0.0, noise=0.1),
            r"^width 8: the loss did not fall by more than its noise \(0\.0.* nats\) up to 10: rai",
        ),
        (averaged([[6.0]], 10.0**LOG10_LR), r"every learning rate diverged, .* before it did at 1e-05: lower --lowest"),
        (averaged([[6.0, 6.5, 6.9]], 10.0**LOG10_LR), r"every learning rate diverged, the loss did not fall"),
    ],
)
def test_a_range_without_bounds_is_refused(given: Curve, said: str) -> None:
    with pytest.raises(Refused, match=said):
        bounds(given, label="width 8")


# --- networks ---------------------------------------------------------------------------------------------------------


def specs(parametrization: str, widths: tuple[int, ...], *, seeds: int = 2) -> list[list[RunSpec]]:
    def spec(width: int, seed: int) -> RunSpec:
        sizes, base = {"heads": width // 32, "context": 32}, {"heads": 1, "context": 32}
        made = make_spec(parametrization, width=width, seed=seed, tokens=64 * 60, sizes=sizes, base_sizes=base)
        horizon = replace(made.horizon, tokens=256 * 60, batch_tokens=256)
        return replace(made, horizon=horizon, hparams=replace(made.hparams, lr=10.0))

    return [[spec(width, seed) for seed in range(seeds)] for width in widths]


@pytest.fixture(scope="module")
def ranges() -> dict[str, LrRange]:
    return {name: lr_range(specs(name, (32, 128)), lowest=1e-4, steps=60) for name in ("mup", "sp")}


def test_the_rate_rises_from_the_lowest_to_the_peak() -> None:
    rising_T = rates(1e-4, 10.0, 60)
    assert (rising_T[0], rising_T[-1]) == (pytest.approx(1e-4), pytest.approx(10.0))
    np.testing.assert_allclose(rising_T[1:] / rising_T[:-1], 1e5 ** (1 / 59))


def test_a_run_that_diverges_ends_the_sweep(ranges: dict[str, LrRange]) -> None:
    for found in ranges.values():
        for each in found.widths:
            assert each.curve.diverged and 30 < len(each.curve.lr_T) < 60 and each.curve.ended_lr > each.bounds.upper
            assert np.isfinite(each.curve.loss_T).all() and each.curve.loss_T.max() <= each.curve.start_nats + 1.0


def test_under_sp_the_upper_bound_falls_with_width_and_under_mup_it_hardly_does(ranges: dict[str, LrRange]) -> None:
    mup, sp = ranges["mup"], ranges["sp"]
    assert mup.exponent is not None and sp.exponent is not None
    assert -2.5 < sp.exponent.value < -1 and sp.moves is True
    assert abs(mup.exponent.value) < 0.6 < mup.exponent.value - sp.exponent.value
    assert all(0 < each.bounds.lower < each.bounds.steepest < each.bounds.upper < 10 for each in mup.widths)


def test_the_union_is_what_is_searched(ranges: dict[str, LrRange]) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    low, high = ranges["sp"].union
    assert low == min(each.bounds.lower for each in ranges["sp"].widths)
    override = OverridesParser.create().parse_override(ranges["sp"].override)
    interval = override.value()
    assert override.is_interval_sweep() and interval.tags == {"log"}  # type: ignore[union-attr]
    assert (interval.start, interval.end) == (pytest.approx(low, rel=0.05), pytest.approx(high, rel=0.05))  # type: ignore[union-attr]


def test_the_figure_has_a_line_and_three_marks_a_width(ranges: dict[str, LrRange]) -> None:
    (panel,) = draw(ranges["mup"]).axes
    assert len(panel.lines) == 2 * (2 + 3) and panel.get_xscale() == "log"
    legend = panel.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["width = 32", "width = 128"]


def test_an_optimizer_that_hands_over_is_refused() -> None:
    spec = make_spec(optimizer="adamw_muon", schedule="wsd")
    with pytest.raises(Refused, match=r"changes hands where the learning rate falls.*: test its parts, adamw and muon"):
        lr_range([[spec]], lowest=1e-4, steps=5)


# --- the command ------------------------------------------------------------------------------------------------------

QUICK = ("context=32", "batch_tokens=256", "tokens=15360", "--steps", "60")


def test_the_command(tmp_path: Path) -> None:
    result = scalelab("lr-range", *QUICK, "--widths", "64,32", "-o", str(tmp_path))
    assert result.exit_code == 0, result.output
    plain = json.loads((tmp_path / "lr_range_mup_width.json").read_text())
    assert [each["width"] for each in plain["widths"]] == [32, 64] and plain["seeds"] == 2
    assert all(len(each["lr"]) == len(each["smoothed_nats"]) == len(each["loss_nats"]) for each in plain["widths"])
    assert (tmp_path / "lr_range_mup_width.svg").exists() and (tmp_path / "lr_range_mup_width.png").exists()
    text = squeezed(result.stdout)
    assert "60 steps from 0.0001 to 10, mean of 2 seeds" in text
    assert f"search it with hydra/sweeper=optuna: '{plain['override']}'" in text
    assert f"mup: the upper bound goes as width^{plain['exponent']['value']:+.2f} [" in text
    for each in plain["widths"]:
        assert f"{each['width']} {each['lower']:.3g} {each['steepest']:.3g} {each['upper']:.3g}" in text


def test_one_width_is_enough(tmp_path: Path) -> None:
    result = scalelab("lr-range", *QUICK, "--widths", "32", "--seeds", "1", "-o", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "one seed: its noise is in the bounds" in squeezed(result.stdout) and "width^" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lowest", "1", "--highest", "0.1"], "--lowest 1 is not below --highest 0.1: exchange them"),
        (["--lowest", "0"], "--lowest 0: accepted is a learning rate above 0"),
        (["--highest", "-1"], "--highest -1: accepted is a learning rate above 0"),
        (["--highest", "inf"], "--highest inf: accepted is a learning rate above 0"),
        (["--widths", "a,b"], "--widths 'a,b': accepted are whole numbers"),
        (["lr=0.1"], "lr=0.1: --lowest and --highest say which learning rates"),
        (["width=64"], "width=64: --widths says which"),
        (["optimizer.weight_decay=0,0.1"], "2 runs for 1 seeds: lr-range takes one value a key"),
        (["-m"], "lr-range takes no -m"),
        (["--steps", "999"], "999 steps of a run of 60: give fewer steps, or more tokens"),
        (["--lowest", "1e-7", "--highest", "1e-6"], "width 32: the loss did not fall by more than its noise"),
        (["--lowest", "1e-4", "--highest", "1e-2"], "width 32: the loss never rose again up to 0.01: raise --highest"),
        (["--lowest", "50", "--highest", "1000"], "width 32: every learning rate diverged"),
    ],
)
def test_refusals(arguments: list[str], said: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    widths = () if "--widths" in arguments else ("--widths", "32")
    assert said in one_line(scalelab("lr-range", *QUICK, "--seeds", "1", *widths, "-o", str(out), *arguments))
    assert not out.exists()
