"""The figure of loss over learning rate and batch."""

import math

import numpy as np
import pandas as pd
import pytest

from scalelab import plots
from scalelab.errors import Refused
from scalelab.laws import Laws, study


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for width, tokens in ((32, 1e5), (32, 4e5), (64, 1e5), (64, 4e5)):
        best_batch, best_lr = 64 * (tokens / 1e5) ** 0.5, 2**-7 * 32 / width
        for lr in (2.0**k for k in range(-10, -4)):
            for batch in (16, 64, 256, 1024):
                y = math.log2(batch / best_batch)
                x = math.log2(lr / best_lr) - 0.5 * y
                loss = 2.5 + 0.02 * x * x + 0.006 * y * y + 0.002 * rng.standard_normal()
                rows.append(
                    {"parametrization": "sp", "width": width, "tokens": tokens, "lr": lr, "batch_tokens": batch,
                     "seed": 0, "loss_nats": loss, "outcome": "OK"}
                )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def laws(runs: pd.DataFrame) -> Laws:
    return study(runs, draws=100)


def test_a_panel_a_scale_with_its_best_setting_and_others(laws: Laws, runs: pd.DataFrame) -> None:
    mine = [{"width": 64.0, "tokens": 1e5, "lr": 0.01, "batch_tokens": 512.0}]
    drawn = plots.landscapes(laws, runs, chosen={"mine": mine})
    assert [axis.get_title() for axis in drawn.axes] == [
        "width = 32, D = 100k", "width = 32, D = 400k", "width = 64, D = 100k", "width = 64, D = 400k",
    ]  # fmt: skip
    (star,) = [line for line in drawn.axes[1].lines if line.get_marker() == "*"]
    assert np.asarray(star.get_xydata()) == pytest.approx(np.array([[128, 2**-7]]), rel=0.2)
    diamonds = [line for axis in drawn.axes for line in axis.lines if line.get_marker() == "D"]
    assert [np.asarray(line.get_xydata()).tolist() for line in diamonds] == [[], [], [[512.0, 0.01]], []]
    assert {text.get_text() for text in drawn.legends[0].get_texts()} == {
        "its own best, by the joint fit", "the law's", "mine"
    }  # fmt: skip


def test_one_batch_is_no_landscape(runs: pd.DataFrame) -> None:
    one = runs[runs["batch_tokens"] == 64]
    with pytest.raises(Refused, match="no landscape"):
        plots.landscapes(study(one, draws=100), one)
