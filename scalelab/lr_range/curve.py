"""A training whose learning rate rises exponentially from step to step, and its loss as a smooth function of it.

The test is Smith's (arXiv:1506.01186 §3.3, arXiv:1803.09820 §4.1); the rise is exponential rather than linear, for what
is looked for is an order of magnitude.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.probe.walk import walk
from scalelab.spec import RunSpec
from scalelab.train import DIVERGED_ABOVE_START_NATS

SMOOTHED_OVER = 0.03  # time constant of the averages, as a share of the sweep: ours


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Loss against learning rate, averaged over seeds, to where the first of them diverged.

    `loss_T` (nats a token, of a batch not yet trained on) is that after the update at `lr_T`, `start_nats` that before
    the first. `diverged` says that the sweep ended early, at `ended_lr`.
    """

    lr_T: np.ndarray
    loss_T: np.ndarray
    smooth_T: np.ndarray
    start_nats: float
    diverged: bool
    ended_lr: float

    @property
    def scatter_nats(self) -> float:
        """Standard deviation of a single `loss_T` around the curve, from its steps: robust to the fall and the rise."""
        steps = np.diff(self.loss_T)
        return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2)) if len(steps) else 0.0


def rising(spec: RunSpec, *, lowest: float, steps: int) -> list[float]:
    """Train for `steps`, the learning rate rising from `lowest` to the spec's own: the loss at first and after each.

    It ends where the loss is not finite, or as far above the first as the trainer calls diverged.
    """
    factor_T = rates(lowest, spec.hparams.lr, steps) / spec.hparams.lr
    found: list[float] = []
    for moment in walk(spec, steps, as_trained=True, lr_factor=lambda step: float(factor_T[step])):
        if found and moment.loss_nats > found[0] + DIVERGED_ABOVE_START_NATS:
            break
        found.append(moment.loss_nats)
    return found


def rates(lowest: float, highest: float, steps: int) -> np.ndarray:
    """The learning rate of each step: equal factors from the first to the last."""
    return np.asarray(lowest * (highest / lowest) ** (np.arange(steps) / (steps - 1)))


def averaged(seeds: Sequence[Sequence[float]], lr_T: np.ndarray) -> Curve:
    """The mean curve of what `rising` found for each seed, to where the first of them ended."""
    steps, kept = len(lr_T), min(len(losses) for losses in seeds)
    loss_T = np.mean([losses[:kept] for losses in seeds], axis=0)
    return Curve(
        lr_T=lr_T[: kept - 1], loss_T=loss_T[1:], smooth_T=smoothed(loss_T[1:], SMOOTHED_OVER * steps),
        start_nats=float(loss_T[0]), diverged=kept <= steps, ended_lr=float(lr_T[min(kept, steps) - 1]),
    )  # fmt: skip


def smoothed(values_T: np.ndarray, constant: float) -> np.ndarray:
    """The mean of two bias-corrected exponential moving averages, one from each end.

    One alone lags behind the curve by its time `constant` (in steps) and would put every bound too high.

    >>> smoothed(np.array([1.0, 1.0, 1.0]), 2.0)
    array([1., 1., 1.])
    >>> smoothed(np.array([0.0, 1.0, 2.0]), 2.0)[1]
    np.float64(1.0)
    """
    beta = 1 - 1 / max(constant, 1.0)
    return np.asarray((_corrected(values_T, beta) + _corrected(values_T[::-1], beta)[::-1]) / 2)


def _corrected(values_T: np.ndarray, beta: float) -> np.ndarray:
    """Kingma & Ba's bias-corrected average (arXiv:1412.6980 Algorithm 1)."""
    found, average = np.empty_like(values_T), 0.0
    for step, value in enumerate(values_T):
        average = beta * average + (1 - beta) * value
        found[step] = average / (1 - beta ** (step + 1))
    return found
