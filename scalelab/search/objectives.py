"""What a search minimises, and how the runs of one setting make one trial of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from scalelab.models import count_params
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, Trial

# Of a run that has ended. A diverged one has lost everything there was to lose.
OBJECTIVES: Mapping[str, Callable[[Trial], float]] = {
    "loss_nats": lambda trial: math.inf if trial.loss_nats is None else trial.loss_nats,
    "cost_flops": lambda trial: float(trial.spec.cost_flops),  # what it would have cost to its end
    "seconds": lambda trial: trial.seconds,
    "params_non_embedding": lambda trial: float(count_params(trial.spec).non_embedding),
    "tokens": lambda trial: float(trial.spec.horizon.tokens),
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a study is told of a setting; `values` are None where there is nothing to learn."""

    outcome: Outcome
    values: Mapping[str, float] | None
    attributes: Mapping[str, Any]


def told(trials: Sequence[Trial], *, stopped: str | None = None, runs: Sequence[RunSpec] = ()) -> Told:
    """One setting's runs, which differ in nothing but the seed, as one trial: means over them.

    A crash teaches nothing, in any of them. A divergence is told as an infinite loss: samplers pass over a trial that
    failed, and would come back.

    Args:
        trials: the runs that were made.
        stopped: why no more of them were; a run that was stopped itself says so.
        runs: all that the setting would have had.
    """
    outcomes = [trial.outcome for trial in trials]
    if Outcome.FAILED in outcomes:
        reason = next(trial.reason for trial in trials if trial.outcome is Outcome.FAILED)
        return Told(outcome=Outcome.FAILED, values=None, attributes={"outcome": "FAILED", "reason": reason})
    seen: dict[str, Any] = {
        "fingerprint": " ".join(trial.spec.fingerprint for trial in trials),
        "seeds": [trial.spec.seed for trial in trials],
        "batch_tokens": trials[0].spec.horizon.batch_tokens,
    }
    if any(trial.trunk_tokens for trial in trials):
        seen["spent_flops"] = fmean(trial.paid_flops for trial in trials)
    values = {name: fmean(of(trial) for trial in trials) for name, of in OBJECTIVES.items()}
    kept = {name: value for name, value in values.items() if math.isfinite(value)}
    if Outcome.DIVERGED in outcomes:
        return Told(outcome=Outcome.DIVERGED, values=values, attributes={"outcome": "DIVERGED", **seen, **kept})
    if reason := next((trial.reason for trial in trials if trial.outcome is Outcome.PRUNED), stopped):
        came = {
            "outcome": "PRUNED",
            "reason": reason,
            "tokens": fmean(trial.tokens_seen for trial in trials),
            "cost_flops": fmean(trial.cost_flops for trial in trials),
            "saved_flops": float(sum(spec.cost_flops for spec in runs) - sum(trial.cost_flops for trial in trials)),
        }
        kept.pop("loss_nats", None)  # over fewer seeds than others': not to be compared
        return Told(outcome=Outcome.PRUNED, values=None, attributes={**seen, **kept, **came})
    return Told(outcome=Outcome.OK, values=values, attributes={"outcome": "OK", **seen, **kept})
