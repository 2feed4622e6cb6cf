"""What a study's trials say: which ended well, which diverged, which still run; the rest teach nothing.

How a trial is read, first line that holds:

| the trial | read as |
|---|---|
| waits to be run (enqueued) | ignored |
| runs | RUNNING, with the parameters that are known |
| user attribute `outcome` is "FAILED" | ignored |
| user attribute `outcome` is "DIVERGED" | DIVERGED |
| COMPLETE, its loss is not finite | DIVERGED |
| COMPLETE, its loss is finite | OK |
| PRUNED or FAIL, the last value that it reported is not finite | DIVERGED |
| PRUNED or FAIL otherwise: a crash, or stopped before it had a loss | ignored |

Optuna makes a FAIL of `tell(trial, nan)` and keeps nothing that tells it from a crash; and a study of two objectives
takes no reports. So where a run diverges, tell it (inf, its cost), or set the attribute
`trial.set_user_attr("outcome", "DIVERGED")` before it is told or ends.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from scalelab.errors import Refused
from scalelab.samplers.attributes import suggested


class Outcome(StrEnum):
    OK = "OK"
    DIVERGED = "DIVERGED"
    RUNNING = "RUNNING"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A trial that says something. `loss` and `cost` are NaN where unknown; a constraint is met at 0 or less."""

    number: int
    outcome: Outcome
    params: Mapping[str, Any]
    loss: float
    cost: float
    constraints: Mapping[str, float]

    @property
    def feasible(self) -> bool:
        return all(value <= 0 for value in self.constraints.values())


def evidence(trials: Iterable[FrozenTrial], space: Mapping[str, BaseDistribution]) -> list[Seen]:
    """The trials that say something about every parameter of `space`, in order.

    Raises:
        Refused: where a trial that ended well has a cost that is no positive number.
    """
    found = []
    for trial in trials:
        outcome = _outcome(trial)
        if outcome is None:
            continue
        params = {**suggested(trial, space), **trial.params} if outcome is Outcome.RUNNING else trial.params
        if all(name in params and trial.distributions.get(name, its) == its for name, its in space.items()):
            told = trial.values if trial.state is TrialState.COMPLETE else ()
            loss, cost = (*told, math.nan, math.nan)[:2]
            if outcome is Outcome.OK and len(told) > 1 and not 0 < cost < math.inf:
                raise Refused(f"trial {trial.number} has a cost of {cost}: accepted is a positive number, told second")
            found.append(
                Seen(
                    number=trial.number, outcome=outcome, params={name: params[name] for name in space},
                    loss=loss, cost=cost if 0 < cost < math.inf else math.nan, constraints=trial.constraints,
                )
            )  # fmt: skip
    return found


def common_space(trials: Iterable[FrozenTrial]) -> dict[str, BaseDistribution]:
    """The parameters that all trials have which have any."""
    spaces = [trial.distributions for trial in trials if trial.distributions and trial.state is not TrialState.WAITING]
    if not spaces:
        return {}
    return {name: its for name, its in sorted(spaces[0].items()) if all(of.get(name) == its for of in spaces)}


def check_directions(study: Study) -> None:
    """Refuse a study that does not minimise a loss and a cost.

    Raises:
        Refused: in one line that shows how to make such a study.
    """
    if study.directions != [StudyDirection.MINIMIZE] * 2:
        given = ", ".join(direction.name.lower() for direction in study.directions)
        raise Refused(
            f"study {study.study_name!r} has directions ({given}): accepted are two, loss and cost; try "
            "create_study(directions=['minimize', 'minimize'])"
        )


def _outcome(trial: FrozenTrial) -> Outcome | None:
    told = trial.user_attrs.get("outcome")
    if trial.state is TrialState.WAITING:
        return None
    if trial.state is TrialState.RUNNING:
        return Outcome.RUNNING
    if told == "FAILED":
        return None
    if told == "DIVERGED":
        return Outcome.DIVERGED
    if trial.state is TrialState.COMPLETE:
        return Outcome.OK if math.isfinite(trial.values[0]) else Outcome.DIVERGED
    reported = trial.intermediate_values
    return Outcome.DIVERGED if reported and not math.isfinite(reported[max(reported)]) else None
