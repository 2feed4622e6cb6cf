"""The published Step Law runs (arXiv:2503.04715): optima and exponents at fixed batch, from 1,911 real curves."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.laws.sweeps import stages

DATA = Path(os.environ.get("SCALELAB_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
RUNS = DATA / "steplaw" / "dense_lr_bs_loss.csv"


@pytest.mark.skipif(not RUNS.exists(), reason=f"{RUNS} is absent: set SCALELAB_DATA to the folder of published runs")
def test_conditional_law_of_published_runs():
    """lr* = N^-.59 [-.69, -.52] D^.03 [-.01, .11] B^.31 [.24, .39] by an independent fit of each (N, D, B) curve."""
    runs = pd.read_csv(RUNS)
    table = pd.DataFrame(
        {
            "params_non_embedding": runs["N"],
            "tokens": runs["D"],
            "batch_tokens": 2048 * runs["bs"],
            "lr": 2 ** (np.round(2 * np.log2(runs["lr"])) / 2),  # a √2 grid, rounded two ways in the file
            "loss_nats": runs["smooth loss"],
            "outcome": np.where(runs["smooth loss"] > 4, "DIVERGED", "OK"),
        }
    )
    group = stages(table, draws=400)
    assert Counter(o.status for o in group.optima)["INTERIOR"] == 157
    estimates = group.fits["power_params"].estimates
    assert estimates["params_non_embedding"].value == pytest.approx(-0.594, abs=0.06)
    assert estimates["tokens"].value == pytest.approx(0.03, abs=0.06)
    assert estimates["batch_tokens"].value == pytest.approx(0.31, abs=0.05)
