"""What was seen of a claim: numbers with intervals, and whether they agree with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated

from scalelab.errors import Refused
from scalelab.spec import ABSENT
from scalelab.typed import Number

DIGITS = 4  # kept of a finding: what is beyond them differs between machines
Measured = Annotated[float, Number(infinite=True)]


class Agreement(StrEnum):
    """Whether what was seen here agrees with a paper's claim."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    DOES_NOT = "does not hold"
    UNDECIDED = "not decided"  # the intervals are too wide to say
    NOT_RUN = "not run here"

    @classmethod
    def of(cls, statements: Sequence[tuple[bool, bool]]) -> "Agreement":
        """Of a claim in one statement or several, each borne out, contradicted, or neither.

        >>> [str(Agreement.of(each)) for each in ([(True, False)], [(True, False), (False, True)], [(False, False)])]
        ['holds', 'holds in part', 'not decided']
        """
        if statements and all(borne for borne, _ in statements):
            return cls.HOLDS
        if any(borne for borne, _ in statements):
            return cls.IN_PART
        return cls.DOES_NOT if any(against for _, against in statements) else cls.UNDECIDED


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A number with its 95 % interval, from `n` runs.

    `low` and `high` are None only where there is no interval to be had; `note` says what the interval is of, where that
    is not the noise of the value.

    >>> print(Finding(name="SP", value=-0.92841, low=-1.1, high=-0.8, unit="octaves a doubling", n=42))
    SP: −0.928 [−1.1, −0.8] octaves a doubling (n = 42)
    """

    name: str
    value: Measured
    low: Measured | None = None
    high: Measured | None = None
    unit: str = ""
    n: int
    note: str | None = field(default=None, metadata=ABSENT)

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise Refused(f"finding {self.name!r}: an interval needs both limits, or neither")
        if any(each is not None and math.isnan(each) for each in (self.value, self.low, self.high)):
            raise Refused(f"finding {self.name!r}: NaN is no number to find; a run that diverged is infinitely bad")

    @property
    def number(self) -> str:
        """Value, interval and unit, as people write them."""
        interval = "" if self.low is None or self.high is None else f" [{_short(self.low)}, {_short(self.high)}]"
        return f"{_short(self.value)}{interval}{' ' * bool(self.unit)}{self.unit}"

    def __str__(self) -> str:
        return f"{self.name}: {self.number} (n = {self.n})"

    def above(self, bound: float) -> bool:
        """Whether the whole interval lies above `bound`; False without an interval."""
        return self.low is not None and self.low > bound

    def below(self, bound: float) -> bool:
        """Whether the whole interval lies below `bound`; False without an interval."""
        return self.high is not None and self.high < bound

    def within(self, bound: float) -> bool:
        """Whether the whole interval lies in ±`bound`: an effect that is shown to be small, not only unseen."""
        return self.above(-bound) and self.below(bound)

    def rounded(self) -> "Finding":
        """To the digits that are kept."""
        low, high = (None if each is None else _kept(each) for each in (self.low, self.high))
        return replace(self, value=_kept(self.value), low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is said of a claim: the agreement, one sentence of what was seen, and the findings behind it."""

    agreement: Agreement
    seen: str
    findings: tuple[Finding, ...]


def _kept(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _short(value: float) -> str:
    value = _kept(value)  # as it is written to files, so that it reads alike before and after
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 999.5:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")
