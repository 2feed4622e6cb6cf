"""Drift: how far the optimum of a group moves over the swept scales, and what ignoring that would cost."""

import math
from dataclasses import dataclass

from scalelab.laws.fitted import Estimate
from scalelab.laws.group import GroupLaws


@dataclass(frozen=True, kw_only=True)
class Drift:
    """From the smallest scale with a fitted optimum to the largest.

    `octaves` is log2 of the largest's optimal LR over the smallest's, with standard deviation `sd_octaves`; `exponent`
    the fitted power in `scale`; `copy_cost_nats` the excess loss at the largest if the smallest's optimum is copied, by
    the largest's own valley.
    """

    scale: str
    smallest: float
    largest: float
    first_log2_lr: float
    last_log2_lr: float
    sd_octaves: float
    exponent: Estimate | None
    copy_cost_nats: float

    @property
    def octaves(self) -> float:
        return self.last_log2_lr - self.first_log2_lr


def scale_of(group: GroupLaws) -> str:
    """The scale that a group is told against: the first of width, depth, tokens, parameters that varies."""
    for name in ("width", "depth", "tokens", "params_non_embedding"):
        if len({optimum.scale.get(name) for optimum in group.optima}) > 1:
            return name
    return next(iter(group.optima[0].scale))


def drift(group: GroupLaws) -> Drift | None:
    """The drift of a group; None with fewer than two fitted optima."""
    name = scale_of(group)
    fitted = [
        (optimum.scale[name], optimum.log2_lr, optimum) for optimum in group.optima if optimum.log2_lr is not None
    ]
    if len(fitted) < 2:
        return None
    fitted.sort(key=lambda found: found[0])
    (smallest, first_lr, first), (largest, last_lr, last) = fitted[0], fitted[-1]
    power = group.lr_fits.get("power")
    return Drift(
        scale=name,
        smallest=smallest,
        largest=largest,
        first_log2_lr=first_lr,
        last_log2_lr=last_lr,
        sd_octaves=math.hypot(first.sd_octaves or 0.0, last.sd_octaves or 0.0),
        exponent=None if power is None or name not in power.reference else power.estimates[name],
        copy_cost_nats=last.excess_nats(first_lr),
    )
