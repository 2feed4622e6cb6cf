"""Findings side by side: in the order given, with their intervals, a colour a kind."""

import math

import pytest

from scalelab.errors import Refused
from scalelab.plots import forest
from scalelab.replications import Finding

MUP = Finding(name="muP", value=-0.1, low=-0.3, high=0.2, n=42)
SP = Finding(name="SP", value=-0.9, low=-1.1, high=-0.8, n=42)
BARE = Finding(name="bare", value=0.5, n=1)


def test_a_row_a_finding_from_the_top_with_its_interval_and_its_kinds_colour() -> None:
    (axis,) = forest({"stays": [MUP, BARE], "drifts": [SP]}, x="octaves a doubling", marks=(0.0, 0.25)).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["muP", "bare", "SP"]
    assert axis.yaxis_inverted() and axis.get_xlabel() == "octaves a doubling"
    first, bare, last = axis.containers
    spans = [tuple(each.lines[2][0].get_segments()[0][:, 0]) for each in (first, bare, last)]
    assert spans == [pytest.approx((-0.3, 0.2)), pytest.approx((0.5, 0.5)), pytest.approx((-1.1, -0.8))]
    assert first.lines[0].get_color() == bare.lines[0].get_color() != last.lines[0].get_color()
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["stays", "drifts"]


def test_what_has_no_place_on_an_axis_is_refused() -> None:
    with pytest.raises(Refused, match="nothing to draw"):
        forest({"none": []}, x="nats")
    with pytest.raises(Refused, match="'diverged' is infinite"):
        forest({"some": [MUP, Finding(name="diverged", value=math.inf, n=2)]}, x="nats")
