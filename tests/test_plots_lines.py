"""Lines of means: a panel a table, and a colour a name in all of them."""

import math

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.plots import lines

FIRST = pd.DataFrame({"mup": [2.4, 2.3, math.inf], "u_mup": [2.5, 2.4, 2.6]}, index=[4.0, 1.0, 0.25])
SECOND = pd.DataFrame({"u_mup": [2.1, 2.2]}, index=[1.0, 2.0])


def test_a_column_has_one_colour_and_what_diverged_is_left_out() -> None:
    left, right = lines({"init gain": FIRST, "logits": SECOND}, x="times the default", y="loss (nats/token)").axes
    mup, u_mup = left.get_lines()
    assert np.array_equal(mup.get_xydata(), [[1.0, 2.3], [4.0, 2.4]])
    assert right.get_lines()[0].get_color() == u_mup.get_color() != mup.get_color()
    assert left.get_xscale() == "log" and left.get_xlabel() == "times the default" and right.get_title() == "logits"


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(Refused, match="nothing to draw"):
        lines({}, x="width", y="loss")
    with pytest.raises(Refused, match="positive"):
        lines({"a": pd.DataFrame({"x": [1.0]}, index=[0.0])}, x="width", y="loss")
