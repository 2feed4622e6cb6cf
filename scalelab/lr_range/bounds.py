"""Where the loss of a rising training begins to fall and where it rises again.

Smith reads the bounds off the curve by eye: the learning rate where it first falls, and the one where it slows, becomes
ragged or turns (arXiv:1506.01186 §3.3). The thresholds that make numbers of that are ours. With F the whole fall, from
the loss at the start to the smallest of the smoothed curve:

- lower: the last learning rate, on the way to the minimum, at which less than 10 % of F had been gained;
- upper: the last one, beyond the minimum, at which less than 10 % of F was lost again, or before a divergence;
- steepest: where the smoothed loss falls fastest in log lr, between the lower bound and the minimum. It is a usual
  first guess, and no bound.
"""

from dataclasses import dataclass

import numpy as np

from scalelab.errors import Refused
from scalelab.lr_range.curve import SMOOTHED_OVER, Curve

MOVED = 0.1  # of the whole fall: gained at the lower bound, lost at the upper one
LEAST_FALL = 5.0  # standard deviations of a single step's loss; below it a tenth of the fall is noise


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Learning rates at the base: between `lower` and `upper` a training of this length learns and is stable.

    `fell_at_once` says that the loss fell within the first steps: the lower bound is the range's, not the network's.
    """

    lower: float
    steepest: float
    upper: float
    fell_at_once: bool


def bounds(curve: Curve, *, label: str) -> Bounds:
    """The bounds of a curve; `label` names it in a refusal.

    Raises:
        Refused: where the loss never fell by more than its noise, or never rose again.
    """
    smooth_T = curve.smooth_T
    fall = curve.start_nats - float(smooth_T.min(initial=np.inf))
    if len(smooth_T) < 2 or not fall > LEAST_FALL * curve.scatter_nats:
        raise Refused(f"{label}: {_no_fall(curve)}")
    bottom = int(smooth_T.argmin())
    gained = np.flatnonzero(smooth_T[:bottom] > curve.start_nats - MOVED * fall)
    kept = bottom + np.flatnonzero(smooth_T[bottom:] <= smooth_T[bottom] + MOVED * fall)
    if kept[-1] == len(smooth_T) - 1 and not curve.diverged:
        raise Refused(f"{label}: the loss never rose again up to {curve.lr_T[-1]:g}: raise --highest")
    first = int(gained[-1]) if len(gained) else 0
    slope_T = np.gradient(smooth_T, np.log(curve.lr_T))
    return Bounds(
        lower=float(curve.lr_T[first]),
        steepest=float(curve.lr_T[first + int(slope_T[first : bottom + 1].argmin())]),
        upper=float(curve.lr_T[kept[-1]]),
        fell_at_once=first < SMOOTHED_OVER * len(smooth_T),
    )


def _no_fall(curve: Curve) -> str:
    if curve.diverged:
        return (
            f"every learning rate diverged, the loss did not fall before it did at {curve.ended_lr:g}: lower --lowest"
        )
    return (
        f"the loss did not fall by more than its noise ({curve.scatter_nats:.2g} nats) up to {curve.lr_T[-1]:g}: raise"
        " --highest, give more --steps or a larger batch_tokens"
    )
