"""Whether a best setting stays as scale grows: shown to stay, shown to drift, or neither."""

from scalelab.replications.finding import Finding

DRIFT, BOUND = 0.25, 0.5  # octaves a doubling


def stays(slope: Finding, *, drift: float = DRIFT, bound: float = BOUND) -> bool | None:
    """True where a slope is under `drift` and its interval within ±`bound`; False where it is at least `drift` and its
    interval leaves 0 out; None where the runs do not say.

    Both need the interval: one that is wide shows nothing.

    >>> [stays(Finding(name="lr", value=v, low=v - 0.3, high=v + 0.3, n=9)) for v in (0.1, -0.4, 0.25)]
    [True, False, None]
    """
    if abs(slope.value) < drift:
        return True if slope.within(bound) else None
    return False if slope.above(0.0) or slope.below(0.0) else None
