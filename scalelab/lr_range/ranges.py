"""The bounds at every width, their union as a search space, and whether the upper one moves with width."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from scalelab.errors import Refused
from scalelab.lr_range.bounds import Bounds, bounds
from scalelab.lr_range.curve import Curve, averaged, rates, rising
from scalelab.probe import Estimate
from scalelab.probe.slopes import trend
from scalelab.spec import RunSpec

DIGITS = ".2g"  # of an interval that is to be searched


@dataclass(frozen=True, kw_only=True)
class WidthRange:
    """What the test found at one width: of the curve averaged over seeds, and the upper bound of each seed's own."""

    width: int
    bounds: Bounds
    curve: Curve
    upper_by_seed: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LrRange:
    """A range test along widths; learning rates are those of the base, as `lr` is everywhere.

    `exponent` is that of width in the upper bound, a line through every seed's; None for one width. Its interval is
    from their scatter around the line, and needs three of them.
    """

    parametrization: str
    optimizer: str
    base_width: int
    seeds: int
    steps: int
    lowest: float
    highest: float
    widths: tuple[WidthRange, ...]
    exponent: Estimate | None
    axis: str = "width"

    @property
    def union(self) -> tuple[float, float]:
        """The smallest lower bound and the largest upper one."""
        return min(each.bounds.lower for each in self.widths), max(each.bounds.upper for each in self.widths)

    @property
    def override(self) -> str:
        """The union as an override of `hydra/sweeper=optuna`."""
        low, high = (f"{bound:{DIGITS}}" for bound in self.union)
        return f"lr=tag(log, interval({low}, {high}))"

    @property
    def moves(self) -> bool | None:
        """Whether the upper bound moves with width, at 95 %; None where no interval is known."""
        if self.exponent is None or self.exponent.low is None or self.exponent.high is None:
            return None
        return not self.exponent.low <= 0 <= self.exponent.high

    def as_plain(self) -> dict[str, Any]:
        """JSON types, the curves and the search space included."""
        widths = [
            {
                "width": each.width,
                **asdict(each.bounds),
                "upper_by_seed": each.upper_by_seed,
                "start_nats": each.curve.start_nats,
                "diverged_at": each.curve.ended_lr if each.curve.diverged else None,
                "lr": each.curve.lr_T.tolist(),
                "loss_nats": each.curve.loss_T.tolist(),
                "smoothed_nats": each.curve.smooth_T.tolist(),
            }
            for each in self.widths
        ]
        exponent = None if self.exponent is None else asdict(self.exponent)
        shared = {name: getattr(self, name) for name in (
            "parametrization", "optimizer", "base_width", "seeds", "steps", "lowest", "highest"
        )}  # fmt: skip
        return {**shared, "interval": self.union, "override": self.override, "exponent": exponent, "widths": widths}


def lr_range(
    specs: Sequence[Sequence[RunSpec]], *, lowest: float, steps: int, console: Console | None = None
) -> LrRange:
    """Raise the learning rate of each spec from `lowest` to the spec's own, and read the bounds off its loss.

    Args:
        specs: for each width, one spec a seed; their `lr` is the highest of the range.
        lowest: the learning rate of the first step.
        steps: updates of a sweep; bounds are known to a step of (highest/lowest)^(1/steps).
        console: where a progress bar is shown.

    Raises:
        Refused: where a width has no bounds in the range, or an optimizer hands over to another one in a decay.
    """
    first = specs[0][0]
    if first.kind.then is not None:
        raise Refused(
            f"optimizer {first.optimizer!r} changes hands where the learning rate falls, and here it only rises: test"
            f" its parts, {first.optimizer.replace('_', ' and ')}"
        )
    shown = track(specs, "lr-range", console=console, transient=True) if console else specs
    found = tuple(_at(of_width, lowest, steps) for of_width in shown)
    each_seed = [(each.width, [upper]) for each in found for upper in each.upper_by_seed]
    widths, uppers = zip(*each_seed, strict=True)
    return LrRange(
        parametrization=first.parametrization, optimizer=first.optimizer, base_width=first.base.width,
        seeds=len(specs[0]), steps=steps, lowest=lowest, highest=first.hparams.lr, widths=found,
        exponent=trend(widths, np.array(uppers), None).exponent if len(found) > 1 else None,
    )  # fmt: skip


def _at(of_width: Sequence[RunSpec], lowest: float, steps: int) -> WidthRange:
    label, lr_T = f"width {of_width[0].shape.width}", rates(lowest, of_width[0].hparams.lr, steps)
    seeds = [rising(spec, lowest=lowest, steps=steps) for spec in of_width]
    curve = averaged(seeds, lr_T)
    return WidthRange(
        width=of_width[0].shape.width,
        bounds=bounds(curve, label=label),
        curve=curve,
        upper_by_seed=tuple(bounds(averaged([losses], lr_T), label=label).upper for losses in seeds),
    )
