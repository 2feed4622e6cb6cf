"""How a command ended and what it has said → the trial."""

import math
import os
from pathlib import Path

from scalelab.command.curve import Curve
from scalelab.command.process import Ended
from scalelab.command.reading import Source
from scalelab.secrets import scrubbed
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, Trial

DIVERGED_ABOVE_START_NATS = 1.0  # as of runs that scalelab trains
TAIL_LINES, TAIL_BYTES = 8, 2000  # of the log, for whoever reads why a run has failed


def judged(spec: RunSpec, curve: Curve, ended: Ended, source: Source, log: Path) -> tuple[Outcome, float | None, str]:
    """The outcome of a command that ended by itself, its loss in nats, and why it is not OK (empty if it is)."""
    if curve.diverged:
        return Outcome.DIVERGED, None, curve.diverged
    said = _meaning(spec, ended)
    if said == "diverged":
        return Outcome.DIVERGED, None, f"{ended}, which means so (trainer.outcomes)"
    if said == "failed":
        return Outcome.FAILED, None, f"{ended}; {tail(log)}"
    loss, missing = result(spec, curve)
    if loss is None:
        return Outcome.FAILED, None, f"{ended}, but {missing}: looked for {source.searched}; {tail(log)}"
    if curve.first_loss is not None and loss > curve.first_loss + DIVERGED_ABOVE_START_NATS:
        return Outcome.DIVERGED, None, f"loss {loss:.3f} against {curve.first_loss:.3f} nats at the start"
    return Outcome.OK, loss, ""


def result(spec: RunSpec, curve: Curve) -> tuple[float | None, str]:
    """The loss of a run that has gone to its end, in nats; or None and what is missing.

    A validation loss is that of the last step. A training loss is told now and then: the last of it may be one such
    interval before the end.
    """
    assert spec.command is not None
    kind, last = spec.command.reading.result, spec.horizon.steps - 1
    found, name = (curve.validations, "validation") if kind == "last_validation" else (curve.losses, "training")
    if not found:
        return None, f"no {name} loss was found"
    step, loss = found[-1]
    interval = 0
    if name == "training" and len(found) > 1 and step is not None and (before := found[-2][0]) is not None:
        interval = step - before
    if step is not None and step + max(0, interval - 1) < last:
        return None, f"the last {name} loss found is of step {step} of {spec.horizon.steps}, not of the end"
    return (min(each for _, each in found) if kind == "min_training" else loss), ""


def trial_of(
    spec: RunSpec, curve: Curve, outcome: Outcome, *, loss: float | None, reason: str, seconds: float
) -> Trial:
    """The trial; a run that is OK has seen all its tokens, another those that it has told of."""
    tokens = spec.horizon.tokens if outcome is Outcome.OK else min(curve.tokens, spec.horizon.tokens)
    density = spec.data.bytes_per_token
    return Trial(
        spec=spec,
        outcome=outcome,
        loss_nats=loss,
        loss_bits_per_byte=None if loss is None or density is None else loss / math.log(2) / density,
        train_loss_nats=curve.losses[-1][1] if curve.losses and outcome is not Outcome.DIVERGED else None,
        tokens_seen=tokens,
        cost_flops=round(spec.cost_flops * tokens / spec.horizon.tokens),
        seconds=seconds,
        reason=reason or None,
    )


def tail(log: Path) -> str:
    """The last lines of what a command has printed, in one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return scrubbed(f"{log} ends: {' | '.join(lines[-TAIL_LINES:])}") if lines else f"{log} is empty"


def _meaning(spec: RunSpec, ended: Ended) -> str:
    assert spec.command is not None
    if ended.status is None:
        return "failed"
    outcomes = {"0": "ok"} | dict(spec.command.option("outcomes") or ())
    return str(outcomes.get(str(ended.status), "failed"))
