"""The best learning rate against the batch: a point a batch and scale, the law through them; refused without any."""

import numpy as np
import pytest

from scalelab import plots
from scalelab.errors import Refused
from scalelab.laws import study
from tests.laws.sweeps import sweep
from tests.test_plots import grid


def test_a_line_a_scale_through_a_point_a_batch() -> None:
    runs = grid(1, 3, 3)
    laws = study(runs, draws=100)
    (panel,) = plots.optimum_against_batch(laws).axes
    (group,) = laws.groups
    known = sum(o.lr is not None for o in group.optima)
    drawn = [bar.lines[0] for bar in panel.containers]  # type: ignore[attr-defined]
    assert sum(len(line.get_xdata()) for line in drawn) == known
    lines = [line for line in panel.lines if len(line.get_xdata()) == 24]  # type: ignore[arg-type]
    assert len(lines) == runs["tokens"].nunique() and len(panel.collections) >= 2
    for line in lines:  # the truth: lr* ∝ √B
        x, y = (np.log(np.asarray(d, dtype=float)) for d in line.get_data())
        assert np.polyfit(x, y, 1)[0] == pytest.approx(0.5, abs=0.1)


def test_runs_of_one_batch_have_no_such_figure() -> None:
    with pytest.raises(Refused, match="batch_tokens"):
        plots.optimum_against_batch(study(sweep(np.random.default_rng(0), seeds=2), draws=100))
