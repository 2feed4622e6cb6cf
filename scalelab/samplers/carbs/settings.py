"""How a search is to be made; refused here, once, where it cannot be."""

import math
from dataclasses import dataclass
from typing import Literal

from scalelab.errors import Refused, unknown

OBJECTIVES = ("front", "joint")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a search.

    Attributes:
        opening: runs that must have ended well before the search begins (4, arXiv:2306.08055's published code).
        resample_every: after so many trials one setting of the front is run again (5, as there); 0 for never.
        max_cost: nothing is suggested that is predicted to cost more.
        budget: of all trials together, spent or running; nothing is suggested that is predicted to exceed what is left.
        objective: "front", the loss at every cost, or "joint", one trade of loss against cost.
        trade: for "joint", how much loss one e-fold of cost is worth.
    """

    opening: int = 4
    resample_every: int = 5
    max_cost: float = math.inf
    budget: float = math.inf
    objective: Literal["front", "joint"] = "front"
    trade: float | None = None

    def __post_init__(self) -> None:
        for name, least in {"opening": 1, "resample_every": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise Refused(f"{name} is {value!r}: accepted is a whole number from {least}")
        for name in ("max_cost", "budget"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value > 0:
                raise Refused(f"{name} is {value!r}: accepted is a positive number, in the unit that trials report")
        if self.objective not in OBJECTIVES:
            raise unknown("objective", self.objective, OBJECTIVES)
        if (self.trade is not None) != (self.objective == "joint"):
            raise Refused(
                f"objective is {self.objective!r} and trade {self.trade!r}: a joint objective needs the loss that one "
                "e-fold of cost is worth, trade=0.05, and a front takes none"
            )
        if self.trade is not None and not 0 < self.trade < math.inf:
            raise Refused(f"trade is {self.trade!r}: accepted is a positive number, loss per e-fold of cost")
