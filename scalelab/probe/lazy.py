"""The laziness check: does what a branch learns stay more than its linearisation, as the network grows?

A layer is lazy with respect to some parameters if its change under theirs becomes, as the network grows, the change of
its linearisation in them at initialisation, |Δh − Δh_lin| / |Δh_lin| → 0; complete feature learning is that none is
(CompleteP, arXiv:2505.01618). Here the parameters are those of one residual branch, its input is held as it was at
initialisation, and `departure` is that ratio. A branch of two matrices that each move by ΔW departs in proportion to
ΔW/W: under Adam it falls like depth^-½ where learning rates do, as with α = ½, and stays with α = 1.
"""

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map_only

from scalelab.errors import Refused
from scalelab.networks import Proxy
from scalelab.probe.slopes import slope
from scalelab.probe.walk import Moment, over, walk
from scalelab.spec import RunSpec

BRANCHES = ("attention out", "mlp out", "branch out")  # how the labels of residual branches begin
TOLERANCE = 0.25  # of slopes, as in the coordinate check: half of what α = ½ falls by
STEP = 1e-4  # of the central difference, in the whole change: in float64 its own error is of 1e-8


@dataclass(frozen=True, kw_only=True)
class Departure:
    """The branches of one kind: `departure` [scale][seed], the mean over them of |Δh − Δh_lin| / |Δh_lin|.

    `slope` is that of its log2 on log2 of the size, `se_slope` its standard error over seeds (None with one). `verdict`
    is "lazy" where it falls by more than `TOLERANCE`, "grows" where it grows by more, else "stays".
    """

    branch: str
    departure: tuple[tuple[float, ...], ...]
    slope: float
    se_slope: float | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Laziness:
    """How far branches are from linear after `steps`, along an axis, with the verdict."""

    parametrization: str
    optimizer: str
    axis: str
    values: tuple[int, ...]
    lr: float
    steps: int
    seeds: int
    branches: tuple[Departure, ...]

    @property
    def passed(self) -> bool:
        return all(each.verdict != "lazy" for each in self.branches)

    def as_plain(self) -> dict[str, Any]:
        """JSON types, with the verdict."""
        return {**asdict(self), "passed": self.passed}


def lazy(specs: Sequence[Sequence[RunSpec]], *, axis: str, steps: int, console: Console | None = None) -> Laziness:
    """Train each spec for `steps` at its full learning rate and hold every branch against its linearisation.

    Args:
        specs: for each size along the axis, one spec a seed.
        axis: "width" or "depth": what differs between the sizes.
        steps: training steps between initialisation and the look.

    Raises:
        Refused: where a network does not survive the steps, or a branch does not change.
    """
    first = specs[0][0]
    recorded = over(specs, lambda spec: _record(spec, steps), title="laziness check", console=console)
    values = [getattr(of_size[0].shape, axis) for of_size in specs]
    return Laziness(
        parametrization=first.parametrization, optimizer=first.optimizer, axis=axis, values=tuple(values),
        lr=first.hparams.lr, steps=steps, seeds=len(specs[0]),
        branches=tuple(
            _departure(label, values, [[run[label] for run in of_size] for of_size in recorded])
            for label in recorded[0][0]
        ),
    )  # fmt: skip


def _departure(label: str, values: Sequence[int], found: Sequence[Sequence[float]]) -> Departure:
    if not np.all(found):
        raise Refused(f"{label} did not leave its linearisation at all: give more --steps, or a higher lr")
    fell, error = slope(values, np.array(found))
    verdict = "lazy" if fell < -TOLERANCE else "grows" if fell > TOLERANCE else "stays"
    return Departure(branch=label, departure=tuple(map(tuple, found)), slope=fell, se_slope=error, verdict=verdict)


def _record(spec: RunSpec, steps: int) -> dict[str, float]:
    """The mean departure of the branches of each label after `steps`."""
    for moment in walk(spec, steps):
        now = _branches(moment.network)
        if moment.step == 0:
            start = {label: [copy.deepcopy(branch).double() for branch in own] for label, own in now.items()}
            given = _inputs(moment)
        if moment.step == steps:
            return {
                label: float(np.mean([
                    departure(begun, ended, given[ended]) for begun, ended in zip(own, now[label], strict=True)
                ]))
                for label, own in start.items()
            }  # fmt: skip
    raise Refused(f"a network diverged within {steps} steps at lr={spec.hparams.lr:g}: lower the lr")


def _branches(network: Proxy) -> dict[str, list[nn.Module]]:
    return {label: modules for label, modules in network.observed().items() if label.startswith(BRANCHES)}


@torch.no_grad()
def _inputs(moment: Moment) -> dict[nn.Module, tuple[Any, ...]]:
    """What each branch is called with on the fixed batch, in float64."""
    given: dict[nn.Module, tuple[Any, ...]] = {}

    def keep(branch: nn.Module, called: tuple[Any, ...]) -> None:
        given[branch] = tree_map_only(Tensor, Tensor.double, called)

    with ExitStack() as stack:
        for branches in _branches(moment.network).values():
            for branch in branches:
                stack.callback(branch.register_forward_pre_hook(keep).remove)
        moment.network.logits(moment.fixed)
    return given


@torch.no_grad()
def departure(start: nn.Module, end: nn.Module, given: tuple[Any, ...]) -> float:
    """|Δy − Δy_lin| / |Δy_lin| of a module's output on what it is given, between its parameters and those of `end`.

    `start` in float64; Δy_lin is the derivative along the change of the parameters.

    Raises:
        Refused: where the output does not change to first order.
    """
    before = dict(start.named_parameters())
    moved = {name: p.double() - before[name] for name, p in end.named_parameters()}

    def output(share: float) -> Tensor:
        parameters = {name: p + share * moved[name] for name, p in before.items()}
        found: Tensor = functional_call(start, parameters, given)
        return found

    linear = (output(STEP) - output(-STEP)) / (2 * STEP)
    size = float(linear.norm())
    if size == 0.0:
        raise Refused("a branch does not change: give more --steps, or a higher lr")
    return float((output(1.0) - output(0.0) - linear).norm()) / size
