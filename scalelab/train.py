"""The trainer: specs → trials.

The order of the data is a function of (seed, step) and an initial value one of (seed, parameter name), so a run does
not depend on what is trained beside it. On one machine and one thread count, two runs of a spec give the same bits.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from scalelab import data as corpora
from scalelab.data.corpus import Corpus, train_batch, validation_batches
from scalelab.networks import Proxy, build
from scalelab.optim import hand_over, optimizers, set_lr
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, Trial

LOG_POINTS = 100  # records of a curve, at most one a step
DIVERGED_ABOVE_START_NATS = 1.0  # assumed: a run that ends this much worse than it began has diverged
VALIDATION_SEQUENCES = 32  # a batch of validation; the loss does not depend on it


class Observer(Protocol):
    """Somebody who is told how a run goes: a metrics file, a tracker."""

    def record(self, values: Mapping[str, Any]) -> None: ...


def run(
    specs: Sequence[RunSpec],
    *,
    observers: Sequence[Sequence[Observer]] | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> list[Trial]:
    """Train each spec to its horizon and measure its validation loss.

    Args:
        specs: complete runs; in any order, of any shapes.
        observers: for each spec, who is told its curve (step, tokens, loss_nats, lr, seconds).
        device: a torch device.
        threads: intra-op threads; one is fastest for small proxies, run one worker a core instead.

    Returns:
        A trial a spec, OK or DIVERGED. What the machine does wrong (out of memory, a lost file) is raised.
    """
    torch.set_num_threads(threads)
    watching = observers if observers is not None else [()] * len(specs)
    return [_train(spec, seen, device) for spec, seen in zip(specs, watching, strict=True)]


def _train(spec: RunSpec, observers: Sequence[Observer], device: str) -> Trial:
    corpus = corpora.load(spec.data.name, **dict(spec.data.options))
    if corpus.sha256 != spec.data.sha256:
        raise RuntimeError(
            f"corpus {corpus.name} is {corpus.sha256[:12]}, the spec was made for {spec.data.sha256[:12]}"
        )
    network = build(spec, device)
    optims = optimizers(network, spec)
    started, every = time.perf_counter(), max(1, spec.horizon.steps // LOG_POINTS)
    first_loss = loss_nats = math.nan
    for step in range(spec.horizon.steps):
        factor, batch = spec.horizon.lr_factor(step), _batch(spec, corpus, step, device)
        if step == 0:
            with torch.no_grad():  # without the auxiliary terms, as the validation loss that it is held against
                first_loss = network.losses(batch).mean().item()
        loss = network.loss(batch)
        loss_nats = loss.item()
        if step % every == 0 or step == spec.horizon.steps - 1 or not math.isfinite(loss_nats):
            values = {
                "step": step,
                "tokens": step * spec.horizon.batch_tokens,  # seen before this step's update
                "loss_nats": loss_nats,
                "lr": spec.hparams.lr * factor,
                "seconds": time.perf_counter() - started,
            }
            for observer in observers:
                observer.record(values)
        if not math.isfinite(loss_nats):
            return _trial(spec, step, started, device, diverged=f"training loss {loss_nats} at step {step}")
        if step == spec.horizon.decay_start and spec.kind.then:
            before, optims = optims, optimizers(network, spec, then=True)
            hand_over(before, optims)
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if spec.hparams.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), spec.hparams.clip_norm)
        set_lr(optims, factor)
        for optim in optims:
            optim.step()
    mean, error = validate(network, spec, corpus, device)
    if not mean <= first_loss + DIVERGED_ABOVE_START_NATS:
        ended = f"validation loss {mean:.3f} against {first_loss:.3f} nats at the start"
        return _trial(spec, spec.horizon.steps, started, device, diverged=ended)
    return _trial(spec, spec.horizon.steps, started, device, loss=(mean, error), train_loss=loss_nats)


def _batch(spec: RunSpec, corpus: Corpus, step: int, device: str) -> torch.Tensor:
    tokens = train_batch(corpus, seed=spec.seed, step=step, sequences=spec.sequences, context=spec.shape.context)
    return torch.from_numpy(tokens).to(device)


@torch.no_grad()
def validate(network: Proxy, spec: RunSpec, corpus: Corpus, device: str) -> tuple[float, float]:
    """Mean next-token loss over the fixed validation set and its standard error over sequences, nats a token."""
    batches = validation_batches(
        corpus, tokens=spec.data.validation_tokens, sequences=VALIDATION_SEQUENCES, context=spec.shape.context
    )
    losses = torch.cat([network.losses(torch.from_numpy(batch).to(device)) for batch in batches])
    error = losses.std().item() / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
    return losses.mean().item(), error


def _trial(
    spec: RunSpec,
    steps: int,
    started: float,
    device: str,
    *,
    loss: tuple[float, float] | None = None,
    train_loss: float | None = None,
    diverged: str | None = None,
) -> Trial:
    mean, error = loss if loss is not None else (None, None)
    bytes_per_token = spec.data.bytes_per_token
    in_bits = None if mean is None or bytes_per_token is None else mean / math.log(2) / bytes_per_token
    tokens = steps * spec.horizon.batch_tokens
    return Trial(
        spec=spec,
        outcome=Outcome.DIVERGED if diverged else Outcome.OK,
        loss_nats=mean,
        loss_se_nats=error if error is not None and math.isfinite(error) else None,
        loss_bits_per_byte=in_bits,
        train_loss_nats=train_loss,
        tokens_seen=tokens,
        cost_flops=round(spec.cost_flops * tokens / spec.horizon.tokens),
        seconds=time.perf_counter() - started,
        reason=diverged,
        provenance={"torch": torch.__version__, "device": device, "threads": str(torch.get_num_threads())},
    )


if __name__ == "__main__":
    import sys

    from scalelab.cli import app

    app(["train", *sys.argv[1:]])
