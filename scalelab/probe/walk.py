"""The one way in which the checks train: a few steps of a spec, seen from outside after each.

Every check asks `over` for a record of each spec; a record is made from the `Moment`s of a `walk`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from scalelab import data as corpora
from scalelab.data.corpus import Corpus, train_batch
from scalelab.errors import Refused
from scalelab.networks import Proxy, build
from scalelab.networks.layers import STREAM
from scalelab.optim import optimizers, set_lr
from scalelab.parametrizations.table import Family
from scalelab.resolve import Setting, settings
from scalelab.spec import RunSpec

PROBE_SEQUENCES = 8
Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A network after `step` updates, with the gradients of its next batch, unclipped.

    `fixed` is a batch of token ids [B, T+1] that is the same at every step, `norm` that of all gradients.
    """

    step: int
    network: Proxy
    fixed: Tensor
    loss_nats: float
    norm: float


def walk(
    spec: RunSpec, steps: int, *, as_trained: bool = False, lr_factor: Callable[[int], float] | None = None
) -> Iterator[Moment]:
    """Train for `steps` updates and stop at each of the steps + 1 states between them.

    At the full learning rate, the gradients as they are; or, `as_trained`, as the trainer does it: with the schedule,
    the clipping, and a second optimizer where there is one. `lr_factor` replaces that schedule by another factor on
    the peak for each step. Ends early where the loss is no longer finite.
    """
    if as_trained and steps > spec.horizon.steps:
        raise Refused(f"{steps} steps of a run of {spec.horizon.steps}: give fewer steps, or more tokens")
    torch.set_num_threads(1)
    corpus = corpora.load(spec.data.name, unique_tokens=spec.data.unique_tokens, **dict(spec.data.options))
    network = build(spec)
    optims, clip = optimizers(network, spec), spec.hparams.clip_norm if as_trained else None
    factor = lr_factor or (spec.horizon.lr_factor if as_trained else lambda step: 1.0)
    fixed = _tokens(spec, corpus, step=0, sequences=PROBE_SEQUENCES)
    for step in range(steps + 1):
        loss = network.loss(_tokens(spec, corpus, step=step + 1, sequences=spec.sequences))
        if not math.isfinite(loss.item()):
            return
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        # clip_grad_norm_ measures before it clips; what is looked at is not clipped.
        norm = nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None]).item()
        yield Moment(step=step, network=network, fixed=fixed, loss_nats=loss.item(), norm=norm)
        if clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        if as_trained and spec.kind.then and step == spec.horizon.decay_start:
            optims = optimizers(network, spec, then=True)
        if step == steps:
            return
        set_lr(optims, factor(step))
        for optim in optims:
            optim.step()


def _tokens(spec: RunSpec, corpus: Corpus, *, step: int, sequences: int) -> Tensor:
    batch = train_batch(corpus, seed=spec.seed, step=step, sequences=sequences, context=spec.shape.context)
    return torch.from_numpy(batch)


def over(
    specs: Sequence[Sequence[RunSpec]], record: Callable[[RunSpec], Record], *, title: str, console: Console | None
) -> list[list[Record]]:
    """The record of every spec [size][seed], the cheapest made first, with a progress bar on a console."""
    seeds = {len(row) for row in specs}
    if len(specs) < 2 or seeds != {max(seeds)} or 0 in seeds:
        raise Refused(f"{title}: a slope needs two sizes or more, each with as many seeds as the others")
    jobs = [(row, column, spec) for row, of_size in enumerate(specs) for column, spec in enumerate(of_size)]
    jobs.sort(key=lambda job: job[2].cost_flops)
    shown = track(jobs, title, console=console, transient=True) if console else jobs
    made = {(row, column): record(spec) for row, column, spec in shown}
    return [[made[row, column] for column in range(len(of_size))] for row, of_size in enumerate(specs)]


@torch.no_grad()
def outputs(network: Proxy, tokens: Tensor) -> dict[str, Tensor]:
    """Outputs of the observed modules on ids [B, T+1], by label; those of one label in all blocks are stacked.

    Of the residual stream only the last block's: a mean over blocks of what builds up along them falls with depth.
    """
    seen: dict[str, list[Tensor]] = {}

    def keep(label: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            seen.setdefault(label, []).append(output.detach())

        return hook

    with ExitStack() as stack:
        for label, modules in network.observed().items():
            for module in modules:
                stack.callback(module.register_forward_hook(keep(label)).remove)
        network(tokens[:, :-1])
    return {label: torch.stack(found[-1:] if label == STREAM else found) for label, found in seen.items()}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Tensors of a spec that are of one kind, whatever its size: what slopes are fitted for."""

    label: str
    family: Family
    settings: tuple[Setting, ...]

    @property
    def eps(self) -> float | None:
        """The tensors' eps, the geometric mean where they differ (an ffn that is no fixed multiple of the width)."""
        found = [setting.eps for setting in self.settings if setting.eps is not None]
        return math.exp(sum(map(math.log, found)) / len(found)) if found else None

    def rms(self, tensors: dict[str, Tensor]) -> float:
        """Root mean square over all entries of the part's tensors."""
        return self._root_square(tensors, lambda x: x.numel())

    def norm(self, tensors: dict[str, Tensor]) -> float:
        """Frobenius norm, root mean square over the part's tensors."""
        return self._root_square(tensors, lambda x: 1)

    def _root_square(self, tensors: dict[str, Tensor], count: Callable[[Tensor], int]) -> float:
        own = [tensors[setting.tensor.name].double() for setting in self.settings]
        return math.sqrt(sum(x.square().sum().item() for x in own) / sum(count(x) for x in own))


def parts(spec: RunSpec) -> dict[str, Part]:
    """A spec's tensors by role, in a block or not, QK-norm gains apart (their length is the head dimension)."""
    found: dict[tuple[str, Family], list[Setting]] = {}
    for setting in settings(spec):
        tensor = setting.tensor
        name = "QK gain" if tensor.name.endswith(("query_norm.gain", "key_norm.gain")) else str(tensor.role)
        label = f"{name}, block" if tensor.in_block else name
        found.setdefault((label, setting.family), []).append(setting)
    return {label: Part(label=label, family=family, settings=tuple(own)) for (label, family), own in found.items()}


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """Each parameter's gradient; zeros where none reached it."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.detach() for name, p in network.named_parameters()}
