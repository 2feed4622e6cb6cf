"""The public name: there without torch, and what it is for: the change of the logits does not depend on width."""

import math
import subprocess
import sys

import numpy
import pytest
import torch

import scalelab
from tests.modules.models import LM, ids, seeded, train

WIDTHS = (32, 64, 128, 256)


def test_the_package_is_imported_without_torch_and_exports_on_demand() -> None:
    code = (
        "import sys, scalelab\n"
        "assert 'torch' not in sys.modules\n"
        "from scalelab import parametrize, Parametrized\n"
        "assert 'torch' in sys.modules and parametrize is scalelab.modules.parametrize\n"
        "assert not hasattr(scalelab, 'parametrise')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr


def moved(table: str, width: int, seed: int) -> float:
    """How far three steps of Adam move the logits, root mean square."""
    base = seeded(LM, 32, seed=100 + seed)
    found = scalelab.parametrize(seeded(LM, width, seed=seed), table, base=base, allow_same=width == 32)
    before = found.model(ids()).detach()
    train(found.model, torch.optim.AdamW(found.groups(lr=0.01)), steps=3)
    return float((found.model(ids()).detach() - before).square().mean().sqrt())


@pytest.mark.parametrize(("table", "low", "high"), [("mup", -0.3, 0.15), ("sp", 0.4, 1.5)])
def test_updates_move_the_logits_as_far_at_every_width_under_mup_and_not_under_sp(
    table: str, low: float, high: float
) -> None:
    means = [math.log(sum(moved(table, width, seed) for seed in range(3))) for width in WIDTHS]
    slope = numpy.polyfit([math.log(width) for width in WIDTHS], means, 1)[0]
    assert low < slope < high
