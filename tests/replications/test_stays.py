"""A rule of three answers: no interval, or one too wide, decides nothing."""

import math

import pytest

from scalelab.replications import Finding, stays

CASES = {
    "small and known to be small": ((0.1, -0.2, 0.4), True),
    "small, but the interval is wide": ((0.1, -0.6, 0.8), None),
    "small, and not 0 for certain: it stays all the same": ((-0.2, -0.3, -0.1), True),
    "large and not 0": ((-0.9, -1.2, -0.6), False),
    "just large enough": ((0.25, 0.01, 0.49), False),
    "large, but 0 is inside": ((0.4, -0.1, 0.9), None),
    "no interval, small": ((0.0, None, None), None),
    "no interval, large": ((3.0, None, None), None),
    "an interval without an end": ((0.1, -math.inf, math.inf), None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_stays_drifts_or_is_not_known(case: str) -> None:
    (value, low, high), answer = CASES[case]
    assert stays(Finding(name="lr", value=value, low=low, high=high, n=4)) is answer


def test_the_bounds_are_the_callers() -> None:
    moved = Finding(name="lr", value=0.1, low=0.05, high=0.15, n=4)
    assert stays(moved, drift=0.1) is False
    assert stays(moved, bound=0.12) is None
