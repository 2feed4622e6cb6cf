"""Bowls and others, whose shape is known."""

import math

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.replications import bowls, triples

LRS = [2.0**k for k in range(-9, -4)]
BATCHES = [16, 64, 256, 1024]


def runs(*, bend: tuple[float, float] = (0.04, 0.01), tilt: float = 0.5, noise: float = 0.002) -> pd.DataFrame:
    """Two scales with a bowl about lr 2^-7 and batch 96; the best lr moves by `tilt` octaves an octave of batch."""
    rng = np.random.default_rng(0)
    rows = []
    for tokens in (1e5, 4e5):
        for lr in LRS:
            for batch in BATCHES:
                y = math.log2(batch / 96)
                x = math.log2(lr) + 7 - tilt * y
                for seed in range(3):
                    loss = 2.5 + bend[0] * x * x / 2 + bend[1] * y * y / 2 + noise * rng.standard_normal()
                    rows.append(
                        {"tokens": tokens, "lr": lr, "batch_tokens": batch, "seed": seed, "loss_nats": loss,
                         "outcome": "OK"}
                    )  # fmt: skip
    return pd.DataFrame(rows)


def test_a_bowl_bends_up_along_every_line() -> None:
    found = triples(runs(), by=["tokens"])
    assert len(found) == 2 * (3 * 4 + 5 * 2 + 2 * 3 * 2)
    assert (found["second"] > -1.64 * found["sd"]).all() and (found["second"] > 1.64 * found["sd"]).mean() > 0.9
    along_lr = found[(found["lr_steps"] == 1) & (found["batch_tokens_steps"] == 0)]
    assert along_lr["second"].mean() == pytest.approx(0.04, rel=0.1)
    assert found["sd"].median() == pytest.approx(0.002 * math.sqrt(6 / 3), rel=0.3)


def test_a_saddle_does_not() -> None:
    saddle = runs(bend=(0.04, -0.02))
    found = triples(saddle, by=["tokens"])
    across = found[(found["lr_steps"] == 1) & (found["batch_tokens_steps"] == 1)]
    assert (found["second"] < -1.64 * found["sd"]).mean() > 0.2 and len(across) == 12
    assert (bowls(saddle, by=["tokens"])["curvature_high"] < 0).all()


def test_the_form_is_found_with_its_uncertainty() -> None:
    found = bowls(runs(), by=["tokens"], within=0.01)
    truth = np.linalg.eigvalsh([[0.04, -0.02], [-0.02, 0.04 * 0.25 + 0.01]])[0]
    assert found["tokens"].tolist() == [1e5, 4e5]
    assert (found["curvature_low"] < truth).all() and (found["curvature_high"] > truth).all()
    assert (found["curvature_low"] > 0).all()
    assert found["lr"].tolist() == pytest.approx([2**-7] * 2, rel=0.1)
    assert found["batch_tokens"].tolist() == pytest.approx([96] * 2, rel=0.2)
    assert found["tilt"].tolist() == pytest.approx([0.5] * 2, abs=0.1)
    assert found["lr_octaves"].tolist() == pytest.approx([2 * math.sqrt(2 * 0.025 / 0.04)] * 2, rel=0.1)
    assert ((found["lr_octaves_low"] < found["lr_octaves"]) & (found["lr_octaves"] < found["lr_octaves_high"])).all()


def test_what_diverged_is_left_out_and_what_is_left_must_do() -> None:
    table = runs()
    lost = table["lr"] == LRS[-1]
    table = table.assign(
        outcome=np.where(lost, "DIVERGED", "OK"), loss_nats=np.where(lost, math.nan, table["loss_nats"])
    )
    assert len(triples(table, by=["tokens"])) == 2 * (2 * 4 + 4 * 2 + 2 * 2 * 2)
    assert bowls(table, by=["tokens"])["lr"].tolist() == pytest.approx([2**-7] * 2, rel=0.1)
    with pytest.raises(Refused, match=r"tokens 100000: 6 settings ended well, a bowl needs 7"):
        bowls(table[(table["lr"] < 2**-7) & (table["batch_tokens"] < 1024)], by=["tokens"])
    with pytest.raises(Refused, match="no three runs in line"):
        triples(table[table["batch_tokens"].isin([16, 64]) & table["lr"].isin(LRS[:2])], by=["tokens"])


def test_a_setting_is_not_judged_by_the_seed_that_survived() -> None:
    table = runs(noise=0.0)
    half = (table["lr"] == LRS[-1]) & (table["seed"] > 0)
    lucky = table["lr"].eq(LRS[-1]) & table["seed"].eq(0)
    table = table.assign(
        outcome=np.where(half, "DIVERGED", "OK"),
        loss_nats=np.where(half, math.nan, table["loss_nats"] - np.where(lucky, 1.0, 0.0)),
    )
    assert bowls(table, by=["tokens"])["lr"].tolist() == pytest.approx([2**-7] * 2, rel=0.01)


def test_settings_that_fix_no_bowl_are_refused() -> None:
    table = runs()
    with pytest.raises(Refused, match=r"tokens 100000: these settings fix no bowl: give 3 or more values of lr and of"):
        bowls(table[table["batch_tokens"] <= 64], by=["tokens"])
    far = table.assign(loss_nats=2.5 + 1e4 * (table["loss_nats"] - table["loss_nats"].min()))
    with pytest.raises(Refused, match="too few settings near the lowest loss"):
        bowls(far, by=["tokens"])


def test_scales_may_be_told_apart_by_names() -> None:
    table = runs().assign(kind=lambda each: np.where(each["tokens"] < 2e5, "short", "long"))
    named, numbered = bowls(table, by=["kind"]), bowls(table, by=["tokens"])
    assert named["kind"].tolist() == ["long", "short"]
    assert named["curvature"].tolist() == numbered["curvature"].tolist()[::-1]
    with pytest.raises(Refused, match="kind short: these settings fix no bowl"):
        bowls(table[(table["batch_tokens"] <= 64) & (table["kind"] == "short")], by=["kind"])
    assert set(triples(table, by=["kind"])["kind"]) == {"long", "short"}


@pytest.mark.parametrize(("shape", "bend"), [((5, 4), (0.1, 0.05)), ((9, 7), (0.2, 0.1)), ((9, 7), (0.1, 0.1))])
def test_the_limits_hold_the_truth_as_often_as_they_say(shape: tuple[int, int], bend: tuple[float, float]) -> None:
    rng = np.random.default_rng(2)
    x, y = (values.ravel() for values in np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij"))
    made = [
        pd.DataFrame({"draw": float(draw), "lr": 2.0**x, "batch_tokens": 2.0**y, "seed": 0, "outcome": "OK",
                      "loss_nats": 3 + (bend[0] * x**2 + bend[1] * y**2) / 2 + 0.005 * rng.standard_normal(len(x))})
        for draw in range(200)
    ]  # fmt: skip
    found = bowls(pd.concat(made), by=["draw"], draws=400)
    held = (found["curvature_low"] <= min(bend)) & (min(bend) <= found["curvature_high"])
    octaves = 2 * math.sqrt(2 * 0.01 * 3 / bend[0])
    held_octaves = (found["lr_octaves_low"] <= octaves) & (octaves <= found["lr_octaves_high"])
    assert held.mean() >= 0.93 and held_octaves.mean() >= 0.92
