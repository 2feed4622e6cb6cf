"""The coordinate check as numbers: how the size of activations, and of their updates, moves with width or depth.

A parametrization keeps its promise if, after a few training steps, neither an activation nor its change since
initialisation grows or dies as the network grows (TP-V §A "coordinate checking"; update sizes: arXiv:2310.17813).
The size of a tensor is its mean absolute entry; a slope is d log2(size) / d log2(width or depth).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console

from scalelab.errors import Refused
from scalelab.networks.layers import LOGITS, STREAM
from scalelab.parametrizations import Family, Role, table
from scalelab.probe.slopes import slope
from scalelab.probe.walk import outputs, over, walk
from scalelab.scale import Power
from scalelab.spec import RunSpec

# Measured on transformers of width 64 to 512: muP's slopes lie within ±0.15 after the first steps, SP's reach +0.5 to
# +1.4 (SP's own statement: updates grow like width). The tolerance sits between, see tests/probe.
# In depth: depth-muP and CompleteP within ±0.15, muP and SP above +0.7.
TOLERANCE = 0.25
# A unit-scaled table states its rates for weights of unit variance, at the shape of ones.
CHECK_LR_UNIT_SCALED = 0.1
# What a branch puts out before it is scaled may shrink with depth (it does in depth-muP, by design); what arrives in
# the residual stream and the logits may not (the depth check of CompleteP, arXiv:2505.01618).
JUDGED_IN_DEPTH = (STREAM, LOGITS)
OUTPUTS = (LOGITS, "router")  # of maps from the width to a number of things that does not grow


@dataclass(frozen=True, kw_only=True)
class Slope:
    """One module's slopes at the last step: of its activation's size and of its change since initialisation.

    `update` is the slope of |x_t − x_0|, `se_update` its standard error over seeds (None with one); likewise
    `activation`. `verdict` is "ok", "grows", "vanishes" or "not judged".
    """

    module: str
    activation: float
    se_activation: float | None
    update: float
    se_update: float | None
    verdict: str

    @property
    def passed(self) -> bool:
        return self.verdict not in ("grows", "vanishes")


@dataclass(frozen=True, kw_only=True)
class Check:
    """A coordinate check: sizes [scale, seed, step, module] and a slope for each module, with the verdict."""

    parametrization: str
    optimizer: str
    axis: str
    values: tuple[int, ...]
    lr: float
    modules: tuple[str, ...]
    activation: np.ndarray
    update: np.ndarray
    slopes: tuple[Slope, ...]

    @property
    def passed(self) -> bool:
        return all(slope.passed for slope in self.slopes)

    def as_plain(self) -> dict[str, Any]:
        """JSON types, with the verdict."""
        plain = {name: getattr(self, name) for name in ("parametrization", "optimizer", "axis", "lr")}
        return {
            **plain,
            "passed": self.passed,
            "values": list(self.values),
            "modules": list(self.modules),
            "slopes": [asdict(slope) for slope in self.slopes],
            "activation": self.activation.tolist(),
            "update": self.update.tolist(),
        }


def coordinate_check(
    specs: Sequence[Sequence[RunSpec]], *, axis: str, steps: int, console: Console | None = None
) -> Check:
    """Train each spec for `steps` at its full learning rate and fit the slopes.

    Args:
        specs: for each size along the axis, one spec a seed.
        axis: "width" or "depth": what differs between the sizes.
        steps: training steps; sizes are recorded at initialisation and after every step.

    Raises:
        Refused: where a network does not survive the steps (lower the learning rate).
    """
    first = specs[0][0]
    recorded = over(specs, lambda spec: _record(spec, steps), title="coordinate check", console=console)
    modules = tuple(recorded[0][0][0][0])
    activation, update = (
        np.array([[[[at[name] for name in modules] for at in run[kind]] for run in of_size] for of_size in recorded])
        for kind in (0, 1)
    )
    if not (np.isfinite(activation).all() and np.isfinite(update).all()):
        raise _diverged(first, steps)
    values = [getattr(seeds[0].shape, axis) for seeds in specs]
    slowed = _slowed(first) if axis == "width" else 0.0
    return Check(
        parametrization=first.parametrization,
        optimizer=first.optimizer,
        axis=axis,
        values=tuple(values),
        lr=first.hparams.lr,
        modules=modules,
        activation=activation,
        update=update,
        slopes=tuple(
            _slope(module, axis, values, activation[..., -1, index], update[..., -1, index], slowed)
            for index, module in enumerate(modules)
        ),
    )


def _diverged(spec: RunSpec, steps: int) -> Refused:
    return Refused(f"a network diverged within {steps} steps at lr={spec.hparams.lr:g}: lower the lr")


def _slowed(spec: RunSpec) -> float:
    """How much the embedding's change falls with width by the table's own word: u-muP's Table 2 says by width^-½."""
    rule = table(spec.parametrization).rules.get((Role.EMBEDDING, Family.ADAM))
    if rule is None or spec.kind.family_of(Role.EMBEDDING) is not Family.ADAM or not isinstance(rule.lr, Power):
        return 0.0
    return max(0.0, -float((rule.multiplier * rule.lr).exponent("fan_out")))


def _slope(
    module: str, axis: str, values: Sequence[int], activation: np.ndarray, update: np.ndarray, slowed: float
) -> Slope:
    act, se_act = slope(values, activation)
    upd, se_upd = slope(values, update)
    # Logits at initialisation, a router's too, are a Gaussian process that falls like width^-1/2 (TP-V App. D.2), and
    # so does the part of their change that the initial weights read from changed activations: so much of a fall is
    # right for them.
    lowest = -TOLERANCE - (0.5 if module in OUTPUTS and axis == "width" else 0.0)
    lowest_update = lowest - (slowed if module == "embedding" else 0.0)
    # What random branches add to the stream at initialisation falls like depth^(1/2−α), α of the branch multiplier: to
    # the embedding's size, and not to nothing.
    lowest_activation = lowest - (0.5 if axis == "depth" else 0.0)
    if axis == "depth" and module not in JUDGED_IN_DEPTH:
        verdict = "not judged"
    elif act > TOLERANCE or upd > TOLERANCE:
        verdict = "grows"
    elif act < lowest_activation or upd < lowest_update:
        verdict = "vanishes"
    else:
        verdict = "ok"
    return Slope(module=module, activation=act, se_activation=se_act, update=upd, se_update=se_upd, verdict=verdict)


def _record(spec: RunSpec, steps: int) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Sizes of activations, and of their changes, on one fixed batch after each step."""
    start, activation, update = None, [], []
    for moment in walk(spec, steps):
        now = outputs(moment.network, moment.fixed)
        if start is None:
            start = now
        else:
            activation.append({name: x.abs().mean().item() for name, x in now.items()})
            update.append({name: (x - start[name]).abs().mean().item() for name, x in now.items()})
    if len(activation) < steps:
        raise _diverged(spec, steps)
    return activation, update


def check_lr(spec: RunSpec) -> float:
    """The learning rate at which the check is calibrated for a spec's optimizer and parametrization."""
    return CHECK_LR_UNIT_SCALED if table(spec.parametrization).unit_scaled else spec.kind.check_lr
