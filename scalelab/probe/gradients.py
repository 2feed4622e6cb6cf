"""The gradient check: does Adam's eps keep up with the gradients it stands beside, in width and in depth?

Adam divides by √v + eps. Where the gradients of a class of parameters fall along a scale faster than its eps does, eps
takes over at some size and the class stops learning (arXiv:2309.14322 saw it in large models; the exponents in width:
arXiv:2407.05872, in depth: CompleteP, arXiv:2505.01618). Gradients are taken at initialisation; along width the error
at the output is of one size there.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from scalelab.errors import Refused
from scalelab.parametrizations.table import Family
from scalelab.probe.slopes import slope
from scalelab.probe.walk import Part, gradients, over, parts, walk
from scalelab.spec import RunSpec

# Measured on transformers of width 64 to 512 and depth 4 to 32: within ±0.1 of the exponent where eps is right.
EPS_TOLERANCE = 0.25
# The size of the gradient that a family's eps or damping stands beside, to the power it has there.
MEASURES: dict[Family, Callable[[Part, dict[str, Tensor]], float]] = {
    Family.ADAM: lambda part, found: part.rms(found),
    Family.MUON: lambda part, found: part.norm(found),
    Family.SOAP: lambda part, found: part.norm(found),
    Family.SHAMPOO: lambda part, found: part.norm(found) ** 2,
    Family.SHAMPOO_HALF: lambda part, found: part.norm(found) ** 2,
}
# In width the exponents of these are no theory's: heads pull a shared QK gain in directions of their own (−0.5
# measured, 0 if they agreed); the last norm's gain sees the readout directly (−1.3 measured); what a router weighs is
# not aligned with the error before training (−1.5 measured, −1 if it were).
UNJUDGED = ("QK gain, block", "gain", "router, block")


@dataclass(frozen=True, kw_only=True)
class ClassSlope:
    """One class of parameters: the slope of its gradient at initialisation beside that of its eps.

    `gradient` [scale] is the mean over seeds of the measure of `MEASURES` (RMS under Adam), `eps` [scale] the resolved
    eps. `verdict` is "eps follows", "eps lags" (gradients fall faster: eps gains weight with size), "eps leads" (eps
    falls faster: it loses what little it does), "no gradient" or "not judged".
    """

    label: str
    family: str
    gradient: tuple[float, ...]
    eps: tuple[float, ...]
    slope: float | None
    se_slope: float | None
    eps_exponent: float
    verdict: str

    @property
    def passed(self) -> bool:
        return self.verdict not in ("eps lags", "eps leads")


@dataclass(frozen=True, kw_only=True)
class GradientCheck:
    """The classes' slopes of gradient and eps along an axis, with the verdict."""

    parametrization: str
    optimizer: str
    axis: str
    values: tuple[int, ...]
    seeds: int
    classes: tuple[ClassSlope, ...]

    @property
    def passed(self) -> bool:
        return all(each.passed for each in self.classes)

    def as_plain(self) -> dict[str, Any]:
        """JSON types, with the verdict."""
        return {**asdict(self), "passed": self.passed}


def gradient_check(specs: Sequence[Sequence[RunSpec]], *, axis: str, console: Console | None = None) -> GradientCheck:
    """Compare the slope of each class's gradient at initialisation with its eps's.

    Args:
        specs: for each size along the axis, one spec a seed.
        axis: "width" or "depth": what differs between the sizes.

    Raises:
        Refused: where the optimizer has no eps.
    """
    first = specs[0][0]
    if not first.kind.eps:
        raise Refused(f"optimizer {first.optimizer!r} has no eps to check: try optimizer=adamw")
    recorded = over(specs, _record, title="gradient check", console=console)
    values = [getattr(of_size[0].shape, axis) for of_size in specs]
    resolved = [parts(of_size[0]) for of_size in specs]
    found = []
    for label, part in resolved[0].items():
        sizes = np.array([[run[label] for run in of_size] for of_size in recorded])
        eps = np.array([[at[label].eps] for at in resolved])
        found.append(_class(part, axis, values, sizes, eps))
    return GradientCheck(
        parametrization=first.parametrization, optimizer=first.optimizer, axis=axis, values=tuple(values),
        seeds=len(specs[0]), classes=tuple(found),
    )  # fmt: skip


def _class(part: Part, axis: str, values: Sequence[int], sizes: np.ndarray, eps: np.ndarray) -> ClassSlope:
    exponent, _ = slope(values, eps)
    measured, error = slope(values, sizes) if sizes.all() else (None, None)
    if measured is None:
        verdict = "no gradient"
    elif part.label in UNJUDGED and axis == "width":
        verdict = "not judged"
    elif abs(measured - exponent) <= EPS_TOLERANCE:
        verdict = "eps follows"
    else:
        verdict = "eps lags" if measured < exponent else "eps leads"
    return ClassSlope(
        label=part.label, family=str(part.family), gradient=tuple(sizes.mean(axis=1).tolist()),
        eps=tuple(eps[:, 0].tolist()), slope=measured, se_slope=error, eps_exponent=exponent, verdict=verdict,
    )  # fmt: skip


def _record(spec: RunSpec) -> dict[str, float]:
    for moment in walk(spec, 0):
        found = gradients(moment.network)
        return {label: MEASURES[part.family](part, found) for label, part in parts(spec).items()}
    raise Refused(f"the loss is not finite at initialisation of width={spec.shape.width} depth={spec.shape.depth}")
