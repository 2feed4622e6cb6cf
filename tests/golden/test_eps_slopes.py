"""Gradients of a small pre-norm transformer at initialisation, in width and depth, beside the eps of its tables.

Five published rules for eps disagree (TP-V App. B.3, Megatron-LM, Lingle, CompleteP, Complete(d)P); these are measured.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from scalelab import data
from scalelab.data.corpus import train_batch
from scalelab.networks import build
from scalelab.resolve import settings
from scalelab.shape import Architecture
from tests.conftest import make_spec

WIDTHS, DEPTHS, SEEDS = (32, 64, 128, 256), (2, 4, 8, 16), range(2)
ARCHITECTURE = Architecture(mlp="gelu", qk_norm=True)  # heads of 16 channels at every width
BLOCKS = ("hidden", "block gain", "QK gain")


def logs(table: str, seed: int, **shape: int) -> dict[str, Any]:
    """log2 of the gradient's RMS and of eps, means over the tensors of each class."""
    spec = make_spec(table, base_width=32, seed=seed, architecture=ARCHITECTURE, hparams={"eps": 1.0}, **shape)
    network = build(spec)
    batch = train_batch(data.load("embedded"), seed=seed, step=0, sequences=16, context=spec.shape.context)
    network.loss(torch.from_numpy(batch)).backward()  # type: ignore[no-untyped-call]
    found: dict[str, list[tuple[float, float]]] = {}
    for setting in settings(spec):
        name, grad = setting.tensor.name, network.get_parameter(setting.tensor.name).grad
        assert grad is not None and setting.eps is not None
        label = str(setting.tensor.role)
        if label == "gain":
            label = "QK gain" if "_norm." in name else "block gain" if setting.tensor.in_block else "last gain"
        values = (math.log2(grad.double().square().mean().sqrt()), math.log2(setting.eps))
        found.setdefault(label, []).append(values)
    return {label: np.mean(values, axis=0) for label, values in found.items()}


def slopes(table: str, dimension: str, sizes: Sequence[int], **shape: int) -> dict[str, Any]:
    """For each class: the slopes of its gradient and of its eps along a dimension."""
    each = [[logs(table, seed, **{dimension: size, **shape}) for seed in SEEDS] for size in sizes]
    means = {label: [np.mean([one[label] for one in of_size], axis=0) for of_size in each] for label in each[0][0]}
    return {label: np.polyfit(np.log2(sizes), mean, 1)[0] for label, mean in means.items()}


@pytest.mark.parametrize(("table", "readout"), [("mup", -1), ("mup_table_3", 0)])
def test_in_width(table: str, readout: int) -> None:
    """Every class −1, but a readout without a multiplier 0: its gradient does not shrink."""
    found = slopes(table, "width", WIDTHS, depth=2)
    for label in ("embedding", "hidden", "block gain", "readout"):
        expected = readout if label == "readout" else -1
        assert found[label] == pytest.approx([expected, expected], abs=0.1), label


def test_gains_that_no_table_has_right() -> None:
    """The last gain −1.3 (here −1, Complete(d)P 0), the QK gain, which its heads share, −½ (here and there 0)."""
    found = slopes("mup", "width", WIDTHS, depth=2)
    assert found["last gain"] == pytest.approx([-1.3, -1], abs=0.1)
    assert found["QK gain"] == pytest.approx([-1 / 2, 0], abs=0.1)


@pytest.mark.parametrize(("table", "alpha"), [("completep", 1), ("completep_half", 1 / 2)])
def test_in_depth(table: str, alpha: float) -> None:
    """−α in the blocks, 0 outside them."""
    found = slopes(table, "depth", DEPTHS, width=64)
    for label, (gradient, eps) in found.items():
        expected = -alpha if label in BLOCKS else 0
        assert eps == pytest.approx(expected, abs=1e-9), label
        assert gradient == pytest.approx(expected, abs=0.2), label
