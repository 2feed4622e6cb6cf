"""Stability diagnostics: the logits that go into the softmax, growth with honest intervals, verdicts at a target."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scalelab.errors import Refused
from scalelab.networks import build
from scalelab.probe import Growth, Stability, stability
from scalelab.probe.attention import AttentionLogits
from scalelab.probe.growth import ATTENTION_LIMIT, growths
from scalelab.probe.slopes import slope, trend
from scalelab.shape import Architecture
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, squeezed
from tests.probe.sizes import specs

WIDTHS = (32, 64, 96)


def measured(**given: Any) -> Stability:
    steps = given.pop("steps", 4)
    target = given.pop("target", 1024)
    return stability(specs("mup", "width", WIDTHS, steps=steps, **given), axis="width", steps=steps, target=target)


@pytest.fixture(scope="module")
def found() -> Stability:
    return measured()


# --- attention logits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("scale", [None, 0.7])
def test_the_largest_logit_is_that_of_the_written_out_softmax(groups: int, scale: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 5, 8, generator=generator) for heads in (4, groups, groups))
    with AttentionLogits() as seen:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=groups != 4)
    logits = torch.einsum("bhtk,bhsk->bhts", q, k.repeat_interleave(4 // groups, dim=1))
    logits = logits * (scale or 1 / math.sqrt(8))
    visible = torch.ones(5, 5, dtype=torch.bool).tril()
    assert seen.largest == [pytest.approx(logits[..., visible].abs().max().item(), rel=1e-6)]
    weights = logits.masked_fill(~visible, -math.inf).softmax(dim=-1)
    torch.testing.assert_close(y, weights @ v.repeat_interleave(4 // groups, dim=1))  # and it is only watched


def test_masks_hide_logits() -> None:
    q = torch.eye(3)[None, None] * 100
    boolean = torch.tensor([[True, False, False]] * 3)
    for mask in (boolean, torch.zeros(3, 3).masked_fill(~boolean, -math.inf)):
        with AttentionLogits() as seen:
            F.scaled_dot_product_attention(q[..., 1:, :], q, q, attn_mask=mask[1:], scale=1.0)
        assert seen.largest == [0.0]  # queries 1 and 2 see key 0 alone, to which they are orthogonal


def test_every_layer_is_seen_and_qk_norm_bounds_what_is_seen() -> None:
    for qk_norm in (False, True):
        spec = make_spec(width=64, depth=3, architecture=Architecture(qk_norm=qk_norm), sizes={"heads": 2})
        network = build(spec)
        with AttentionLogits() as seen:
            network(torch.arange(16)[None])
        assert len(seen.largest) == 3
        # normalised q and k of length √d_head, times 1/√d_head of the base
        bound = math.sqrt(32) if qk_norm else math.inf
        assert all(0 < value < bound for value in seen.largest)


# --- growth -----------------------------------------------------------------------------------------------------------


def test_a_power_is_found_and_extrapolated() -> None:
    sizes = np.array([[3.0 * width**0.5] * 2 for width in (32, 64, 128)])
    line = trend((32, 64, 128), sizes, 4096)
    assert line.exponent.value == pytest.approx(0.5)
    assert line.at_target is not None and line.at_target.value == pytest.approx(3.0 * 64)
    assert slope((32, 64, 128), sizes) == (pytest.approx(0.5), pytest.approx(0.0))


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    x = np.array([32.0, 64.0, 128.0, 256.0])
    hits = np.zeros(2)
    for _ in range(600):
        y = 2.0 ** (0.3 * np.log2(x) + 0.2 * rng.standard_normal(4))
        line = trend(tuple(x), y[:, None], 4096)
        beyond = 2.0 ** (0.3 * 12 + 0.2 * rng.standard_normal())
        assert line.at_target is not None
        for index, (at, truth) in enumerate(((line.exponent, 0.3), (line.at_target, beyond))):
            assert at.low is not None and at.high is not None
            hits[index] += at.low <= truth <= at.high
    assert (np.abs(hits / 600 - 0.95) < 0.03).all(), hits


def test_two_sizes_give_no_interval() -> None:
    line = trend((32, 64), np.array([[1.0], [2.0]]), 128)
    assert line.at_target is not None
    assert (line.at_target.value, line.at_target.low, line.exponent.low) == (pytest.approx(4.0), None, None)


@pytest.mark.parametrize(
    ("exponent", "verdict"), [(0.0, "ok"), (1.0, "passes the limit"), (0.65, "may pass the limit")]
)
def test_logits_are_held_against_the_limit_at_the_target(exponent: float, verdict: str) -> None:
    given = specs("mup", "width", (32, 64, 128), seeds=1)
    noise = (1.0, 1.02, 1.0)
    runs = [[[10.0 * (width / 32) ** exponent * n]] for width, n in zip((32, 64, 128), noise, strict=True)]
    (growth,) = growths(given, {"max attention logit": runs}, (32, 64, 128), 2**20)
    assert (growth.limit, growth.above, growth.verdict) == (ATTENTION_LIMIT, True, verdict), growth


def test_gradients_are_held_against_the_eps_that_the_target_will_have() -> None:
    runs = [[[1e-3 / width]] for width in (32, 64, 128)]
    verdicts = {}
    for name in ("mup", "mup_package"):  # eps 1/m, and left alone: 1e-8
        given = specs(name, "width", (32, 64, 128), seeds=1)
        (growth,) = growths(given, {"gradient RMS: hidden, block": runs}, (32, 64, 128), 2**20)
        verdicts[name] = growth.verdict
        assert growth.limit == pytest.approx(1e-8 / 2**15 if name == "mup" else 1e-8)
    assert verdicts == {"mup": "ok", "mup_package": "passes the limit"}


# --- a run ------------------------------------------------------------------------------------------------------------


def named(found: Stability) -> dict[str, Growth]:
    return {growth.quantity: growth for growth in found.growths}


def test_what_is_recorded(found: Stability) -> None:
    assert found.values == WIDTHS and found.steps == 4 and found.target == 1024
    assert {
        "loss", "max attention logit", "max attention logit: layer 1", "mean output logit", "max |output logit|",
        "RMS log-partition", "gradient norm", "gradient RMS: hidden, block", "update RMS: readout",
        "activation RMS: residual stream",
    } <= set(found.series)  # fmt: skip
    assert all(np.array(runs).shape == (3, 2, 5) for runs in found.series.values())
    assert not found.diverged and not found.notes and found.passed
    layers = [np.array(found.series[f"max attention logit: layer {layer}"]) for layer in range(2)]
    np.testing.assert_array_equal(np.maximum(*layers), np.array(found.series["max attention logit"]))


def test_updates_are_the_learning_rate_in_size_and_move_by_the_rules(found: Stability) -> None:
    growth = named(found)
    assert growth["update RMS: hidden, block"].exponent.value == pytest.approx(-1, abs=0.15)  # muP: lr ∝ 1/m
    assert growth["update RMS: readout"].exponent.value == pytest.approx(0, abs=0.15)
    assert 0 < growth["update RMS: readout"].sizes[0] < 2 * found.lr


def test_it_is_json_with_nulls_for_what_is_not_there(found: Stability) -> None:
    plain = json.loads(json.dumps(found.as_plain(), allow_nan=False))
    assert plain["series"]["update RMS: readout"][0][0][0] is None  # nothing has moved yet
    assert plain["passed"] is True and len(plain["growths"]) == len(found.growths)


def test_the_axis_may_be_parameters() -> None:
    in_params = stability(specs("mup", "width", WIDTHS, steps=1, seeds=1), axis="params", steps=1)
    assert in_params.values[0] > 2 * 4 * 32**2 and in_params.target is None
    assert all(growth.at_target is None for growth in in_params.growths)


def test_a_run_that_diverges_is_data() -> None:
    found = measured(hparams={"lr": 1e18, "clip_norm": None, "weight_decay": 0.0}, seeds=1)
    assert not found.passed
    assert len(found.diverged) == 3 and "width 32 seed 0: diverged after" in found.diverged[0]


def test_more_steps_than_the_run_has_are_refused() -> None:
    with pytest.raises(Refused, match="9 steps of a run of 8: give fewer steps, or more tokens"):
        stability(specs("mup", "width", (32, 64), steps=8), axis="width", steps=9)


# --- the command ------------------------------------------------------------------------------------------------------

QUICK = ("context=32", "batch_tokens=256", "tokens=1024", "--seeds", "1", "--widths", "32,64,96")


def test_the_command(tmp_path: Path) -> None:
    result = scalelab("check", "--stability", *QUICK, "--target-width", "4096", "-o", str(tmp_path))
    assert result.exit_code == 0, result.output
    plain = json.loads((tmp_path / "stability_mup_width.json").read_text())
    assert plain["target"] == 4096 and plain["steps"] == 4
    assert (tmp_path / "stability_mup_width.svg").exists()
    text = squeezed(result.stdout)
    assert "max attention logit" in text and "at width 4096" in text
    assert "mup: nothing passes a known limit in width" in text
    for each in plain["growths"]:
        assert f"{each['quantity']} {each['sizes'][0]:.3g} {each['sizes'][-1]:.3g}" in text


def test_a_target_below_the_sizes_is_refused(tmp_path: Path) -> None:
    refused = scalelab("check", "--stability", *QUICK, "--target-width", "64", "-o", str(tmp_path / "out"))
    assert "--target-width 64 below the largest width, 96" in one_line(refused)
    assert not list(tmp_path.iterdir())


def test_more_steps_than_asked_for_is_one_line(tmp_path: Path) -> None:
    assert "99 steps of a run of 4" in one_line(
        scalelab("check", "--stability", *QUICK, "--steps", "99", "-o", str(tmp_path))
    )
