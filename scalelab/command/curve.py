"""The curve of a command's run, put together from what it says, one line after the other."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from scalelab.command.reading import Seen
from scalelab.spec import RunSpec


@dataclass(kw_only=True)
class Curve:
    """What is known so far; losses in nats a token.

    A run that went on from a checkpoint tells some of its steps again: what it says last counts.
    """

    spec: RunSpec
    step: int | None = None
    tokens: int = 0
    first_loss: float | None = None
    losses: list[tuple[int | None, float]] = field(default_factory=list)  # of training, by step
    validations: list[tuple[int | None, float]] = field(default_factory=list)
    diverged: str | None = None

    def put(self, seen: Seen, *, seconds: float) -> Iterator[dict[str, Any]]:
        """Take a line in; yields the record that it makes, if it says a loss."""
        batch = self.spec.horizon.batch_tokens
        step = seen.step if seen.step is not None or seen.tokens is None else seen.tokens // batch
        if step is not None:
            self._go_back(step, seen)
            self.step, self.tokens = step, seen.tokens if seen.tokens is not None else step * batch
        for name, loss in (("training", seen.loss), ("validation", seen.validation_loss)):
            if loss is not None and not math.isfinite(loss) and self.diverged is None:
                self.diverged = f"{name} loss {loss} at step {'unknown' if self.step is None else self.step}"
        if seen.loss is not None and math.isfinite(seen.loss):
            self.first_loss = seen.loss if self.first_loss is None else self.first_loss
            self.losses.append((self.step, seen.loss))
        if seen.validation_loss is not None:
            self.validations.append((self.step, seen.validation_loss))
        if seen.loss is not None or seen.validation_loss is not None:
            yield self._record(seen, seconds)

    def _go_back(self, step: int, seen: Seen) -> None:
        """Forget what was said of later steps, where training is at a step that it has been at: it was begun again."""
        if seen.loss is None or not self.losses or (self.losses[-1][0] or 0) < step:
            return
        self.losses = [each for each in self.losses if each[0] is None or each[0] < step]
        self.validations = [each for each in self.validations if each[0] is None or each[0] <= step]

    def _record(self, seen: Seen, seconds: float) -> dict[str, Any]:
        horizon, step = self.spec.horizon, self.step or 0
        last = self.losses[-1][1] if self.losses else math.nan
        values = {
            "step": step,
            "tokens": self.tokens,
            "loss_nats": seen.loss if seen.loss is not None else last,
            "lr": self.spec.hparams.lr * horizon.lr_factor(max(0, min(step, horizon.steps - 1))),
            "seconds": seconds,
        }
        return values if seen.validation_loss is None else {**values, "validation_loss_nats": seen.validation_loss}
