"""scalelab's own training in float64, which another framework's is held against; its weights with multipliers in them.

network = started(spec); state = grown_state(network, run, folded(run)); losses(network, spec, batches(spec))
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from scalelab.exporters import Handoff
from scalelab.exporters.handed import Handed
from scalelab.networks import Proxy, build
from scalelab.networks.transformer import ROPE_THETA
from scalelab.optim import optimizers, set_lr
from scalelab.spec import RunSpec
from tests.handoff.recipes import case


def batches(spec: RunSpec, *, seed: int = 0) -> list[Tensor]:
    """Token ids [B, context + 1] of every step: inputs, and one further targets. Low ones are frequent, so there is
    something to learn.
    """
    generator = torch.Generator().manual_seed(seed)
    size = (spec.horizon.steps, spec.sequences, spec.shape.context + 1)
    return list((torch.rand(size, generator=generator) ** 3 * spec.shape.vocab).long())


def started(spec: RunSpec, *, seed: int = 1) -> Proxy:
    """Our network in float64 with every gain and bias off its start, so that one that is left out shows.

    The rotary tables are in float64 too: frameworks that compute them in float32 are given these.
    """
    network = build(spec).double()
    if isinstance(network.rope, Tensor):
        network.rope = torch.stack(rope_tables(spec.shape.context, spec.shape.head_dim))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith((".gain", ".bias")):
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.1)
    return network


def rope_tables(context: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin [T, 1, K] in float64, the frequencies laid out twice (first and second half of a head)."""
    frequency = ROPE_THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency.repeat(2)).unsqueeze(1)
    return angle.cos(), angle.sin()


def losses(network: Proxy, spec: RunSpec, tokens: Sequence[Tensor]) -> list[float]:
    """The training loss, nats, of every step before it is taken: scalelab's optimizer and schedule."""
    found = optimizers(network, spec)

    def step(index: int) -> None:
        set_lr(found, spec.horizon.lr_factor(index))
        if spec.hparams.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), spec.hparams.clip_norm)
        for optimizer in found:
            optimizer.step()

    return trained(network.parameters(), network.loss, step, tokens)


@cache
def ours(name: str) -> list[float]:
    """The losses of one of `recipes.CASES` as scalelab trains it."""
    return losses(started(case(name)), case(name), batches(case(name)))


def trained(
    parameters: Iterable[Tensor],
    loss: Callable[[Tensor], Tensor],
    step: Callable[[int], None],
    tokens: Sequence[Tensor],
) -> list[float]:
    """The loss of every step of any training: `loss` of ids [B, context + 1], `step` takes step number so-and-so."""
    each, found = list(parameters), []
    for index, ids in enumerate(tokens):
        value = loss(ids)
        for parameter in each:
            parameter.grad = None
        value.backward()  # type: ignore[no-untyped-call]
        step(index)
        found.append(value.item())
    return found


def grown_state(network: nn.Module, run: Handoff, folded: Handoff) -> dict[str, Tensor]:
    """Our weights by our names, each as many times as large as folding made it."""
    after = folded.by_name
    factors = {each.name: _grown(each, after[each.name]) for each in run.tensors}
    return {name: parameter.detach().clone() * factors[name] for name, parameter in network.named_parameters()}


def _grown(before: Handed, after: Handed) -> float:
    """How many times as large it became, by its learning rate: what starts at 0 does not say."""
    family = before.family
    return float((after.lr / before.lr) ** (1 / (1 + family.degree - family.parameter_degree)))
