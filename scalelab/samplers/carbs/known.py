"""What is known when a setting is to be chosen: measurements, their front, surrogates, and what may still be spent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scalelab.errors import Refused
from scalelab.samplers.carbs.front import Measured, front, measured
from scalelab.samplers.carbs.settings import Settings
from scalelab.samplers.carbs.surrogates import Fit, Surrogates, surrogates
from scalelab.samplers.evidence import Outcome, Seen
from scalelab.samplers.space import Space

Array = NDArray[np.float64]
Integers = NDArray[np.intp]
LIKELY = math.log(0.5)  # a run is expected to end well: its ln probability


@dataclass(frozen=True, kw_only=True)
class Known:
    """Of a study: everything that ended or runs, at points x_ND, and what follows from it."""

    seen: Sequence[Seen]
    space: Space
    x_ND: Array
    settings: Measured
    front_F: Integers
    model: Surrogates

    @property
    def running_RD(self) -> Array:
        return self.x_ND[[one.outcome is Outcome.RUNNING for one in self.seen]]

    @property
    def front_FD(self) -> Array:
        return self.settings.x_GD[self.front_F]

    @property
    def origins_F(self) -> Integers:
        """Where to search around: the front, or where no setting is feasible the one that is most likely to be."""
        if len(self.front_F):
            return self.front_F
        return np.array([np.argmax(self.model.odds.log_probability(self.settings.x_GD))])

    def expecting(self) -> "Known":
        """As this, had the trials that run ended with what is expected of them, as far as that is to end well.

        They stand on the front, then, and it is searched on from there: workers that wait for nothing get as far in a
        batch as one that waits for each run.
        """
        running_R = [place for place, one in enumerate(self.seen) if one.outcome is Outcome.RUNNING]
        if not running_R:
            return self
        x_RD = self.running_RD
        loss_R = self.model.scores.losses(self.model.score(x_RD)[0])
        cost_R, chance_R = np.exp(self.model.log_cost(x_RD)), self.model.odds.log_probability(x_RD)
        seen = list(self.seen)
        for place, loss, cost, chance in zip(running_R, loss_R, cost_R, chance_R, strict=True):
            if chance > LIKELY:
                seen[place] = replace(seen[place], outcome=Outcome.OK, loss=float(loss), cost=float(cost))
        ended = measured([one for one in seen if one.outcome is Outcome.OK], self.space)
        return replace(self, seen=seen, settings=ended, front_F=front(ended), model=self.model.expecting(x_RD))


def known(seen: Sequence[Seen], space: Space, settings: Settings, fit: Fit | None) -> Known:
    """What is known from trials of which at least one ended well.

    Raises:
        Refused: where a surrogate cannot be fitted.
    """
    if settings.trade is not None:
        seen = [_joint(one, settings.trade) for one in seen]
    ended = measured([one for one in seen if one.outcome is Outcome.OK], space)
    front_F = front(ended)
    near_FD = ended.x_GD[front_F] if len(front_F) else space.centre_D[None]
    return Known(
        seen=seen, space=space, x_ND=space.encode([one.params for one in seen]), settings=ended, front_F=front_F,
        model=surrogates(seen, space, near_FD, fit),
    )  # fmt: skip


def left(seen: Sequence[Seen], settings: Settings, predicted_U: Array) -> float:
    """The most that one more run may cost: of what the budget leaves, and of `max_cost`.

    A trial counts by the cost that it was told with; one that runs, or diverged without a cost, by the predicted one
    of `predicted_U`. A crash tells no cost and counts for nothing.

    Raises:
        Refused: where nothing is left.
    """
    spent = sum(one.cost for one in seen if not math.isnan(one.cost)) + float(predicted_U.sum())
    if spent >= settings.budget:
        raise Refused(
            f"the budget of {settings.budget:g} is spent, {spent:.6g} by {len(seen)} trials: nothing more is "
            "suggested; raise the budget to go on"
        )
    return min(settings.max_cost, settings.budget - spent)


def _joint(one: Seen, trade: float) -> Seen:
    """The loss as the joint objective has it, loss + trade · ln cost.

    One objective that captures both, to be improved upon by Bayesian optimization, is the idea of arXiv:2008.00386.
    This form of it is chosen here: it is in the unit of the loss, and its one constant has a meaning.
    """
    return replace(one, loss=one.loss + trade * math.log(one.cost)) if one.outcome is Outcome.OK else one
