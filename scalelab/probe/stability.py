"""Stability diagnostics of short trainings, and what their growth says of a larger size.

After "Small-scale proxies for large-scale Transformer training instabilities" (arXiv:2309.14322): attention logits that
grow until softmax is one-hot (its §3.1.1), output logits that drift away from log-probabilities (§3.1.2), gradients
that fall to the size of Adam's eps. Each is fitted as a power of the size and read off at a target. A power through
proxies of one decade says little about two decades further: the interval is the line's own, and stated only from
three sizes on.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from scalelab.models import count_params
from scalelab.networks.layers import LOGITS
from scalelab.probe.attention import AttentionLogits
from scalelab.probe.growth import ATTENTION, GRADIENT, Growth, growths
from scalelab.probe.walk import Moment, gradients, outputs, over, parts, walk
from scalelab.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class Stability:
    """The diagnostics of runs along an axis, their growth, and the verdict at a target.

    `series` maps a quantity to its values [scale][seed][step], NaN after a divergence; an attention logit that is not
    there (a model without attention) is absent from it and named in `notes`.
    """

    parametrization: str
    optimizer: str
    axis: str
    values: tuple[int, ...]
    target: int | None
    lr: float
    steps: int
    growths: tuple[Growth, ...]
    series: dict[str, list[list[list[float]]]]
    diverged: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.diverged and all(growth.verdict != "passes the limit" for growth in self.growths)

    def as_plain(self) -> dict[str, Any]:
        """JSON types, with the verdict; what is not finite as null."""
        plain: dict[str, Any] = _finite({**asdict(self), "passed": self.passed})
        return plain


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def stability(
    specs: Sequence[Sequence[RunSpec]],
    *,
    axis: str,
    steps: int,
    target: int | None = None,
    console: Console | None = None,
) -> Stability:
    """Train each spec for `steps` as the trainer would, record the diagnostics, and extrapolate their growth.

    Args:
        specs: for each size along the axis, one spec a seed.
        axis: "width", "depth" or "params" (non-embedding): what sizes are counted in.
        steps: training steps, under the spec's own schedule and clipping.
        target: the size to extrapolate to, in the axis's units; None fits exponents only.
    """
    first = specs[0][0]
    recorded = over(specs, lambda spec: _record(spec, steps), title="stability", console=console)
    values = [
        count_params(of_size[0]).non_embedding if axis == "params" else getattr(of_size[0].shape, axis)
        for of_size in specs
    ]
    diverged = tuple(
        f"{axis} {value} seed {spec.seed}: diverged after {len(run) - 1} of {steps} steps"
        for value, of_size, row in zip(values, specs, recorded, strict=True)
        for spec, run in zip(of_size, row, strict=True)
        if len(run) <= steps
    )
    common = [name for name in recorded[0][0][0] if all(name in run[0] for row in recorded for run in row)]
    series = {
        name: [[[at[name] for at in run] + [np.nan] * (steps + 1 - len(run)) for run in row] for row in recorded]
        for name in common
    }
    notes = () if ATTENTION in common else (f"{first.model} has no attention: no attention logits to look at",)
    return Stability(
        parametrization=first.parametrization, optimizer=first.optimizer, axis=axis, values=tuple(values),
        target=target, lr=first.hparams.lr, steps=steps,
        growths=growths(specs, series, values, target), series=series, diverged=diverged, notes=notes,
    )  # fmt: skip


def _record(spec: RunSpec, steps: int) -> list[dict[str, float]]:
    """The quantities at every step until the end, or until the loss is no longer finite."""
    own, found = parts(spec), []
    before: dict[str, Tensor] | None = None
    for moment in walk(spec, steps, as_trained=True):
        now = {name: p.detach().clone() for name, p in moment.network.named_parameters()}
        moved = None if before is None else {name: now[name] - before[name] for name in now}
        before = now
        grads = gradients(moment.network)
        found.append(
            _forward(moment)
            | {"loss": moment.loss_nats, "gradient norm": moment.norm}
            | {f"{GRADIENT}: {label}": part.rms(grads) for label, part in own.items()}
            | {f"update RMS: {label}": part.rms(moved) if moved else np.nan for label, part in own.items()}
        )
    return found or [{}]


def _forward(moment: Moment) -> dict[str, float]:
    """What one forward pass on the fixed batch shows."""
    with AttentionLogits() as attention:
        seen = outputs(moment.network, moment.fixed)
    layers = attention.largest
    logits: Tensor = seen[LOGITS].double()
    return {
        **({ATTENTION: max(layers)} if layers else {}),
        **({f"{ATTENTION}: layer {index}": value for index, value in enumerate(layers)} if len(layers) > 1 else {}),
        "mean output logit": logits.mean().item(),
        "max |output logit|": logits.abs().max().item(),
        "RMS log-partition": torch.logsumexp(logits, dim=-1).square().mean().sqrt().item(),
        **{f"activation RMS: {label}": x.double().square().mean().sqrt().item() for label, x in seen.items()},
    }
