"""Which of many possible sets of runs to choose: greedy by variance taken away per FLOP.

A design's worth is the variance of one linear combination of parameters, the prediction at the target (c-optimality:
Chaloner & Verdinelli 1995, doi:10.1214/ss/1177009939; of regions of interest MacKay 1992,
doi:10.1162/neco.1992.4.4.590). Information adds: Λ' = Λ + Σ J, and the variance is cᵀΛ'⁻¹c.

Greedy per FLOP alone can spend a budget on small scales and never afford the large one that it needed. So the greedy
path is followed within every range of costs, and the best of all paths within the budget is taken. The paths do not
know the budget: a larger one never gives a larger variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scalelab.laws.law import Array

LEAST_GAIN = 0.02  # of the standard deviation: less is not worth a study
LEVELS = 8  # of cost, between which ranges are taken


@dataclass(frozen=True, kw_only=True, eq=False)
class Option:
    """A way to train at a scale (by its number `site`): `richness` orders the ways, each entry of which only adds
    runs; `information_PP` is what it says about the parameters."""

    site: int
    richness: tuple[int, ...]
    cost_flops: float
    information_PP: Array = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """The variance to shrink: precision of the parameters now, the prediction's gradient, and what stays whatever is
    run."""

    precision_PP: Array
    contrast_P: Array
    irreducible: float

    def sd(self, chosen: Sequence[Option]) -> float:
        """Standard deviation at the target once the chosen options are run."""
        precision_PP = sum((option.information_PP for option in chosen), start=self.precision_PP)
        law = float(self.contrast_P @ np.linalg.solve(precision_PP, self.contrast_P))
        return float(np.sqrt(law + self.irreducible**2))


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Options chosen, in the order in which their scales were first chosen."""

    options: tuple[Option, ...]
    cost_flops: float
    sd: float


def designs(question: Question, options: Sequence[Option]) -> list[Design]:
    """Every design on every path, from one option on."""
    costs = sorted({option.cost_flops for option in options})
    levels = sorted({costs[int(k)] for k in np.linspace(0, len(costs) - 1, LEVELS)}) if costs else []
    found = []
    for place, floor in enumerate(levels):
        for ceiling in levels[place:]:
            found += _path(question, [o for o in options if floor <= o.cost_flops <= ceiling])
    return found


def best(found: Sequence[Design], budget_flops: float) -> Design | None:
    """The smallest standard deviation within a budget; None where nothing fits."""
    affordable = [design for design in found if design.cost_flops <= budget_flops * (1 + 1e-9)]
    return min(affordable, key=lambda design: (design.sd, design.cost_flops), default=None)


def _path(question: Question, options: Sequence[Option]) -> list[Design]:
    information_OPP = np.stack([option.information_PP for option in options])
    chosen: dict[int, Option] = {}
    found: list[Design] = []
    precision_PP, sd = question.precision_PP, question.sd([])
    while True:
        before = [chosen.get(option.site) for option in options]
        extra_O = np.array([o.cost_flops - (b.cost_flops if b else 0.0) for o, b in zip(options, before, strict=True)])
        adds_O = np.array([b is None or _richer(o, b) for o, b in zip(options, before, strict=True)])
        held_OPP = np.stack([b.information_PP if b else np.zeros_like(precision_PP) for b in before])
        after_OPP = precision_PP + information_OPP - held_OPP
        law_O = np.linalg.solve(after_OPP, question.contrast_P[None, :, None])[..., 0] @ question.contrast_P
        after_O = np.sqrt(np.maximum(law_O, 0.0) + question.irreducible**2)
        useful_O = adds_O & (extra_O > 0) & (sd - after_O >= LEAST_GAIN * sd)
        if not useful_O.any():
            return found
        rate_O = np.where(useful_O, (sd**2 - after_O**2) / np.maximum(extra_O, 1e-300), -np.inf)
        place = int(np.argmax(rate_O))
        chosen[options[place].site] = options[place]
        precision_PP, sd = after_OPP[place], float(after_O[place])
        cost = sum(option.cost_flops for option in chosen.values())
        found.append(Design(options=tuple(chosen.values()), cost_flops=cost, sd=sd))


def _richer(option: Option, other: Option) -> bool:
    """Whether an option has all runs of another, and more."""
    return option.richness != other.richness and all(
        mine >= theirs for mine, theirs in zip(option.richness, other.richness, strict=True)
    )
