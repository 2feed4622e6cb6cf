"""Top singular values over training: what learning rate, weight decay and width together leave of them.

Under AdamW a matrix forgets its start within about 1/(η·λ) steps; what remains is a balance of updates and decay whose
top singular value goes like √(η/λ)·d^¾ in width d (arXiv:2510.15262). With muP's η ∝ 1/d it stays if λ ∝ √d, which is
`weight_decay_policy=root_width`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from scalelab.errors import Refused
from scalelab.optimizers.factors import matrix_shape
from scalelab.probe.slopes import slope
from scalelab.probe.walk import over, walk
from scalelab.resolve import Setting, settings
from scalelab.spec import RunSpec

WIDTH_EXPONENT = 0.75  # arXiv:2510.15262
TOLERANCE = 0.125  # of slopes: half of the ¼ that λ out of step with √d leaves of them under muP
LOOKS = 20  # at the spectra, along a run: they cost more than a step does
SETTLED = 3.0  # assumed: time scales 1/(η·λ) after which e^-3 of the start is left


@dataclass(frozen=True, kw_only=True)
class MatrixSpectrum:
    """One matrix of the network, those of its name in all blocks taken together (geometric mean).

    `top` and `stable_rank` [scale, seed, look] are σ1 and ‖W‖²_F/σ1². `slope` is that of the last σ1 along width,
    `invariant` that of √(η/λ)·d^¾ with the matrix's own resolved η and λ, `ratio` their difference (None both where
    it is not decayed). `time_scales` is how many 1/(η·λ) the shortest-lived run lasted: below `SETTLED` the start is
    still seen. `verdict` is "stays", "grows" or "falls", of `slope`.
    """

    name: str
    top: np.ndarray
    stable_rank: np.ndarray
    slope: float
    se_slope: float | None
    invariant: float | None
    time_scales: float
    verdict: str

    @property
    def ratio(self) -> float | None:
        return None if self.invariant is None else self.slope - self.invariant

    @property
    def settled(self) -> bool:
        return self.time_scales >= SETTLED


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The matrices' spectra along width, at the `steps` that were looked at."""

    parametrization: str
    weight_decay_policy: str
    values: tuple[int, ...]
    lr: float
    weight_decay: float
    steps: tuple[int, ...]
    matrices: tuple[MatrixSpectrum, ...]

    axis = "width"

    @property
    def inner(self) -> list[MatrixSpectrum]:
        """The matrices in the blocks, which the rule is about."""
        return [each for each in self.matrices if each.name.startswith("blocks.")]

    @property
    def passed(self) -> bool:
        """Whether they keep their top singular value, in runs long enough to tell."""
        return all(each.verdict == "stays" and each.settled for each in self.inner)

    def as_plain(self) -> dict[str, Any]:
        """JSON types."""
        plain = asdict(self) | {"passed": self.passed}
        for each, matrix in zip(plain["matrices"], self.matrices, strict=True):
            each |= {"top": matrix.top.tolist(), "stable_rank": matrix.stable_rank.tolist()}
            each |= {"ratio": matrix.ratio, "settled": matrix.settled}
        return plain


def spectrum(specs: Sequence[Sequence[RunSpec]], *, steps: int, console: Console | None = None) -> Spectrum:
    """Train each spec for `steps` as the trainer would and follow the spectra of its matrices.

    Args:
        specs: for each width, one spec a seed; their weight_decay_policy is what is looked at.
        steps: training steps, many times 1/(lr · weight_decay) for a steady state.

    Raises:
        Refused: where a run diverges.
    """
    first = specs[0][0]
    looks = sorted({round(at) for at in np.linspace(0, steps, min(LOOKS, steps) + 1)})
    recorded = over(specs, lambda spec: _record(spec, looks), title="spectrum", console=console)
    values = [of_size[0].shape.width for of_size in specs]
    resolved = [_matrices(of_size[0]) for of_size in specs]
    found = []
    for name in resolved[0]:
        seen = np.array([[[at[name] for at in run] for run in of_size] for of_size in recorded])
        found.append(_matrix(name, values, seen, [at[name][0] for at in resolved], steps))
    return Spectrum(
        parametrization=first.parametrization, weight_decay_policy=first.weight_decay_policy, values=tuple(values),
        lr=first.hparams.lr, weight_decay=first.hparams.weight_decay, steps=tuple(looks), matrices=tuple(found),
    )  # fmt: skip


def invariant(lr: float, weight_decay: float, width: float) -> float:
    """√(η/λ)·d^¾, to which a steady top singular value is proportional (arXiv:2510.15262).

    >>> print(round(invariant(1 / 4, 2.0, 4), 12))  # η ∝ 1/m, λ ∝ √m at m = 4
    1.0
    """
    return math.sqrt(lr / weight_decay) * math.pow(width, WIDTH_EXPONENT)


def _matrix(name: str, values: Sequence[int], seen: np.ndarray, own: Sequence[Setting], steps: int) -> MatrixSpectrum:
    measured, error = slope(values, seen[:, :, -1, 0])
    decay = [setting.lr * setting.weight_decay for setting in own]
    expected = None
    if all(decay):
        rates = [invariant(s.lr, s.weight_decay, width) for s, width in zip(own, values, strict=True)]
        expected, _ = slope(values, np.array(rates)[:, None])
    verdict = "stays" if abs(measured) <= TOLERANCE else "grows" if measured > 0 else "falls"
    return MatrixSpectrum(
        name=name, top=seen[..., 0], stable_rank=seen[..., 1], slope=measured, se_slope=error, invariant=expected,
        time_scales=steps * min(decay), verdict=verdict,
    )  # fmt: skip


def _matrices(spec: RunSpec) -> dict[str, list[Setting]]:
    found: dict[str, list[Setting]] = {}
    for setting in settings(spec):
        if setting.tensor.fan_in is not None:
            found.setdefault(re.sub(r"\.\d+\.", ".*.", setting.tensor.name), []).append(setting)
    return found


def _record(spec: RunSpec, looks: Sequence[int]) -> list[dict[str, tuple[float, float]]]:
    named, found = _matrices(spec), []
    for moment in walk(spec, looks[-1], as_trained=True):
        if moment.step in looks:
            parameters = dict(moment.network.named_parameters())
            found.append({
                name: _spectra([parameters[setting.tensor.name].detach() for setting in own])
                for name, own in named.items()
            })  # fmt: skip
    if len(found) < len(looks):
        raise Refused(f"a network diverged within {looks[-1]} steps at lr={spec.hparams.lr:g}: lower the lr")
    return found


def _spectra(weights: Sequence[Tensor]) -> tuple[float, float]:
    """σ1 and stable rank, geometric means over matrices of one name (and over the members of a stack)."""
    values = torch.cat([
        torch.linalg.svdvals(w.reshape(matrix_shape(w.shape))).flatten(0, -2) if w.ndim == 3
        else torch.linalg.svdvals(w.reshape(matrix_shape(w.shape)))[None]
        for w in weights
    ])  # fmt: skip
    top = values[:, 0].clamp(min=torch.finfo(values.dtype).tiny)
    rank = values.square().sum(dim=1) / top.square()
    return top.log().mean().exp().item(), rank.log().mean().exp().item()
