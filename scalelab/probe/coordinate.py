"""The coordinate check as numbers: how the size of activations, and of their updates, moves with width or depth.

A parametrization keeps its promise if, after a few training steps, neither an activation nor its change since
initialisation grows or dies as the network grows (TP-V §A "coordinate checking"; update sizes: arXiv:2310.17813).
The size of a tensor is its mean absolute entry; a slope is d log2(size) / d log2(width or depth).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from scalelab import data as corpora
from scalelab.data.corpus import train_batch
from scalelab.errors import Refused
from scalelab.networks import Proxy, build
from scalelab.networks.layers import LOGITS, STREAM
from scalelab.optim import optimizers
from scalelab.spec import RunSpec

# Measured on transformers of width 64 to 512: muP's slopes lie within ±0.15 after the first steps, SP's reach +0.5 to
# +1.4 (SP's own statement: updates grow like width). The tolerance sits between, see tests/test_probe.py.
# In depth: depth-muP and CompleteP within ±0.15, muP and SP above +0.7.
TOLERANCE = 0.25
PROBE_SEQUENCES = 8
# What a branch puts out before it is scaled may shrink with depth (it does in depth-muP, by design); what arrives in
# the residual stream and the logits may not (the depth check of CompleteP, arXiv:2505.01618).
JUDGED_IN_DEPTH = (STREAM, LOGITS)


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
    jobs = [(row, column, spec) for row, seeds in enumerate(specs) for column, spec in enumerate(seeds)]
    jobs.sort(key=lambda job: job[2].cost_flops)
    shown = track(jobs, "coordinate check", console=console, transient=True) if console else jobs
    recorded: dict[tuple[int, int], tuple[list[dict[str, float]], list[dict[str, float]]]] = {}
    for row, column, spec in shown:
        recorded[row, column] = _record(spec, steps)
    modules = tuple(recorded[0, 0][0][0])
    activation, update = (
        np.array(
            [
                [[[at[module] for module in modules] for at in recorded[r, c][kind]] for c in range(len(specs[0]))]
                for r in range(len(specs))
            ]
        )
        for kind in (0, 1)
    )
    if not (np.isfinite(activation).all() and np.isfinite(update).all()):
        raise Refused(f"a network diverged within {steps} steps at lr={specs[0][0].hparams.lr:g}: lower the lr")
    values = [getattr(seeds[0].shape, axis) for seeds in specs]
    first = specs[0][0]
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
            _slope(module, axis, values, activation[..., -1, index], update[..., -1, index])
            for index, module in enumerate(modules)
        ),
    )


def _slope(module: str, axis: str, values: Sequence[int], activation: np.ndarray, update: np.ndarray) -> Slope:
    act, se_act = _fit(values, activation)
    upd, se_upd = _fit(values, update)
    # The logits at initialisation are a Gaussian process that falls like width^-1/2 (TP-V App. D.2), and so does the
    # part of their change that the initial readout reads from changed activations: so much of a fall is right for them.
    lowest = -TOLERANCE - (0.5 if module == "logits" and axis == "width" else 0.0)
    if axis == "depth" and module not in JUDGED_IN_DEPTH:
        verdict = "not judged"
    elif act > TOLERANCE or upd > TOLERANCE:
        verdict = "grows"
    elif act < lowest or upd < lowest:
        verdict = "vanishes"
    else:
        verdict = "ok"
    return Slope(module=module, activation=act, se_activation=se_act, update=upd, se_update=se_upd, verdict=verdict)


def _fit(values: Sequence[int], sizes: np.ndarray) -> tuple[float, float | None]:
    """Slope of log2 size [scale, seed] on log2 scale for each seed: the mean over seeds and its standard error."""
    x = np.log2(np.asarray(values, dtype=float))
    y = np.log2(np.maximum(sizes, np.finfo(float).tiny))
    slopes = (x - x.mean()) @ y / np.square(x - x.mean()).sum()
    error = float(slopes.std(ddof=1)) / math.sqrt(len(slopes)) if len(slopes) > 1 else None
    return float(slopes.mean()), error


def _record(spec: RunSpec, steps: int) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Sizes of activations, and of their changes, on one fixed batch before training and after each step."""
    torch.set_num_threads(1)
    corpus = corpora.load(spec.data.name, **dict(spec.data.options))
    network = build(spec)
    optims = optimizers(network, spec)
    fixed = _tokens(spec, corpus, step=0, sequences=PROBE_SEQUENCES)
    start = _activations(network, fixed)
    activation, update = [], []
    for step in range(1, steps + 1):
        loss = network.loss(_tokens(spec, corpus, step=step, sequences=spec.sequences))
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optim in optims:
            optim.step()
        now = _activations(network, fixed)
        activation.append({name: x.abs().mean().item() for name, x in now.items()})
        update.append({name: (x - start[name]).abs().mean().item() for name, x in now.items()})
    return activation, update


def _tokens(spec: RunSpec, corpus: corpora.Corpus, *, step: int, sequences: int) -> Tensor:
    batch = train_batch(corpus, seed=spec.seed, step=step, sequences=sequences, context=spec.shape.context)
    return torch.from_numpy(batch)


@torch.no_grad()
def _activations(network: Proxy, tokens: Tensor) -> dict[str, Tensor]:
    """Outputs by module; those of the same module in all blocks are stacked, so that networks of any depth compare.

    Of the residual stream only the last block's: a mean over blocks of what builds up along them falls with depth.
    """
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            seen.setdefault(name, []).append(output.detach())

        return hook

    modules = [(label, module) for label, found in network.observed().items() for module in found]
    hooks = [module.register_forward_hook(keep(label)) for label, module in modules]
    network(tokens[:, :-1])
    for hook in hooks:
        hook.remove()
    return {label: torch.stack(outputs[-1:] if label == STREAM else outputs) for label, outputs in seen.items()}
