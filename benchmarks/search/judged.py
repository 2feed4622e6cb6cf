"""Records → how good a recommendation was, against the trials and the compute that it took.

A sampler that recommends is taken at its word. For every other, one of two rules, said in the row's name:

    as it ran       the trial of the lowest observed loss, at the scale at which it ran; smaller runs lose by their size
    raised          that trial's settings at the target, a scale that is free there growing as the root of compute
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from search.runs import Record

Array = npt.NDArray[np.float64]
Rule = Literal["as it ran", "raised", "recommended"]

GOOD = 0.3  # % of loss: a recommendation this close to the best is as good as the noise lets anyone tell


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the tables."""

    label: str
    sampler: str
    rule: Rule


ROWS = (
    Row(label="random", sampler="random", rule="as it ran"),
    Row(label="random, raised", sampler="random", rule="raised"),
    Row(label="QMC", sampler="qmc", rule="as it ran"),
    Row(label="CMA-ES", sampler="cmaes", rule="as it ran"),
    Row(label="NSGA-II", sampler="nsga2", rule="as it ran"),
    Row(label="NSGA-II, raised", sampler="nsga2", rule="raised"),
    Row(label="TPE", sampler="tpe", rule="as it ran"),
    Row(label="TPE, raised", sampler="tpe", rule="raised"),
    Row(label="TPE, two objectives", sampler="tpe2", rule="as it ran"),
    Row(label="TPE, two objectives, raised", sampler="tpe2", rule="raised"),
    Row(label="TPE at the target", sampler="tpe-cmax", rule="as it ran"),
    Row(label="GP", sampler="gp", rule="as it ran"),
    Row(label="GP, raised", sampler="gp", rule="raised"),
    Row(label="GP at the target", sampler="gp-cmax", rule="as it ran"),
    Row(label="GP at 1/100, copied", sampler="gp-proxy", rule="raised"),
    Row(label="SMAC3", sampler="smac", rule="as it ran"),
    Row(label="SMAC3, raised", sampler="smac", rule="raised"),
    Row(label="CARBS, imbue's", sampler="imbue", rule="as it ran"),
    Row(label="CARBS, imbue's, raised", sampler="imbue", rule="raised"),
    Row(label="CARBS, ours", sampler="carbs", rule="as it ran"),
    Row(label="CARBS, ours, raised", sampler="carbs", rule="raised"),
    Row(label="CARBS, ours, recommended", sampler="carbs", rule="recommended"),
    Row(label="law", sampler="law", rule="recommended"),
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One search by one rule: after each trial, the compute spent (full runs) and the regret (%) of what is advised."""

    spent_T: Array
    regret_T: Array
    seconds: float

    def after(self, trials: int) -> tuple[float, float]:
        """Regret and compute spent; NaN where the search was shorter."""
        known = len(self.spent_T) >= trials
        return (self.regret_T[trials - 1], self.spent_T[trials - 1]) if known else (np.nan, np.nan)

    def within(self, budget: float) -> float:
        """Regret of the last advice that the budget allows; NaN where the first run is beyond it."""
        affordable = int(np.searchsorted(self.spent_T, budget, side="right"))
        return float(self.regret_T[affordable - 1]) if affordable else np.nan

    def spent_until_good(self, *, stays: bool) -> float:
        """Full runs until the regret is at most GOOD, for good or for the first time; infinite where it never is."""
        good_T = self.regret_T <= GOOD
        if stays:
            good_T = np.logical_and.accumulate(good_T[::-1])[::-1]
        return float(self.spent_T[np.argmax(good_T)]) if good_T.any() else np.inf


def judged(records: Sequence[Record], rule: Rule) -> Judged:
    """A search by a rule; before any run has ended well, the advice is the first run's settings."""
    loss_T = np.array([np.inf if record.loss is None else record.loss for record in records])
    if rule == "recommended":
        regret_T = np.array(
            [records[0].raised if record.recommended is None else record.recommended for record in records]
        )
    else:
        # The trial of the lowest loss so far.
        best_T = np.maximum.accumulate(np.where(loss_T <= np.minimum.accumulate(loss_T), np.arange(len(loss_T)), 0))
        of_trial_T = np.array([record.regret if rule == "as it ran" else record.raised for record in records])
        regret_T = of_trial_T[best_T]
    return Judged(
        spent_T=np.cumsum([record.spent for record in records]),
        regret_T=regret_T,
        seconds=float(np.mean([record.seconds for record in records])),
    )
