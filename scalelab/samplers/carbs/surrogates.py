"""The surrogates: of the loss, of ln cost, of whether a run ends well, of each constraint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import log_ndtr

from scalelab.samplers.carbs import gp
from scalelab.samplers.carbs.outputs import NormalScores
from scalelab.samplers.evidence import Outcome, Seen
from scalelab.samplers.space import Space

Array = NDArray[np.float64]
FIT_TO = 150  # observations, nearest the front, that hyperparameters are fitted to
CONDITION_ON = 1000  # observations, nearest the front, that a posterior is conditioned on
GROWTH = 1.1  # of the number of observations, after which hyperparameters are fitted anew
LOSS, COST, SUCCESS, CONSTRAINT = "loss", "cost", "success", "constraint:"

Target = tuple[Sequence[Seen], Array]  # observations, and a value of each: of mean about 0 and size about 1


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Hyperparameters by surrogate, and the number of observations behind them: what a trial keeps for later ones."""

    observations: int
    theta: Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Odds:
    """Of ending well: a process of labels and one of each constraint, below 0 where all is well."""

    space: Space
    processes: Mapping[str, gp.Process]

    def log_probability(self, x_MD: Array) -> Array:
        """ln of the probability that a run ends well and keeps every constraint, each taken to be independent."""
        total_M, z_MD = np.zeros(len(x_MD)), _units(self.space, x_MD)
        for process in self.processes.values():
            mean_M, sd_M = process.predict(z_MD)
            total_M += log_ndtr(-mean_M / np.hypot(sd_M, process.noise))
        return total_M


@dataclass(frozen=True, kw_only=True)
class Surrogates:
    """Posteriors over functions of points x_MD in transformed units."""

    space: Space
    loss: gp.Process
    cost: gp.Process
    odds: Odds
    scores: NormalScores
    cost_mean: float
    cost_sd: float
    fit: Fit

    def score(self, x_MD: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the loss, in normal scores."""
        return self.loss.predict(_units(self.space, x_MD))

    def log_cost(self, x_MD: Array) -> Array:
        """Mean of ln cost."""
        return self.cost_mean + self.cost_sd * self.cost.mean(_units(self.space, x_MD))

    def expecting(self, x_RD: Array) -> "Surrogates":
        """As these, had runs at x_RD ended with the loss expected of them: little is left to learn beside them."""
        if not len(x_RD):
            return self
        z_RD, known = _units(self.space, x_RD), self.loss
        z_ND, y_N = np.vstack([known.z_ND, z_RD]), np.r_[known.y_N, known.mean(z_RD)]
        return replace(self, loss=gp.condition(known.theta_P, known.dimension_D, z_ND, y_N))


def surrogates(seen: Sequence[Seen], space: Space, near_FD: Array, fit: Fit | None) -> Surrogates:
    """The surrogates given what ended, well or not, each conditioned on the observations nearest to points `near_FD`.

    Hyperparameters are those of `fit`, which is kept as it is, where the observations have grown little since; else
    they are searched for from there.

    Raises:
        Refused: where a surrogate cannot be fitted.
    """
    ended = [one for one in seen if one.outcome is Outcome.OK]
    loss_N, log_cost_N = np.array([one.loss for one in ended]), np.log([one.cost for one in ended])
    scores = NormalScores.of(loss_N)
    cost_mean, cost_sd = float(log_cost_N.mean()), float(log_cost_N.std()) or 1.0
    targets = {LOSS: (ended, scores.scores(loss_N)), COST: (ended, (log_cost_N - cost_mean) / cost_sd), **_odds(seen)}
    observations = sum(one.outcome is not Outcome.RUNNING for one in seen)
    kept = fit.theta if fit and observations < GROWTH * fit.observations else {}
    processes = _processes(targets, space, near_FD, kept, start=fit.theta if fit else {})
    if not fit or not targets.keys() <= kept.keys():
        theta = {name: process.theta_P.tolist() for name, process in processes.items()}
        fit = Fit(observations=observations, theta=theta)
    return Surrogates(
        space=space, loss=processes.pop(LOSS), cost=processes.pop(COST), odds=Odds(space=space, processes=processes),
        scores=scores, cost_mean=cost_mean, cost_sd=cost_sd, fit=fit,
    )  # fmt: skip


def odds(seen: Sequence[Seen], space: Space, near_FD: Array) -> Odds:
    """The odds of ending well alone: also where no run did."""
    return Odds(space=space, processes=_processes(_odds(seen), space, near_FD, {}, start={}))


def _odds(seen: Sequence[Seen]) -> dict[str, Target]:
    """What is to be below 0: a label, −1 where a run ended well and 1 where it diverged, and each constraint."""
    found: dict[str, Target] = {}
    done = [one for one in seen if one.outcome is not Outcome.RUNNING]
    if any(one.outcome is Outcome.DIVERGED for one in done):
        found[SUCCESS] = done, np.array([1.0 if one.outcome is Outcome.DIVERGED else -1.0 for one in done])
    for name in sorted({name for one in done for name in one.constraints}):
        told = [one for one in done if name in one.constraints]
        value_N = np.clip([one.constraints[name] for one in told], -1e300, 1e300)
        # Constraints come in bytes or in seconds, some of them far off: what matters is the side of 0, and how near.
        value_N = np.arcsinh(value_N / (np.median(np.abs(value_N)) or 1.0))
        found[CONSTRAINT + name] = told, value_N / (np.sqrt(np.mean(value_N**2)) or 1.0)
    return found


def _processes(
    targets: Mapping[str, Target],
    space: Space,
    near_FD: Array,
    kept: Mapping[str, Sequence[float]],
    start: Mapping[str, Sequence[float]],
) -> dict[str, gp.Process]:
    """A process for each target, with the hyperparameters `kept`, or fitted from those to start from."""
    dimension_D = np.repeat(np.arange(len(space.dimensions)), [dimension.width for dimension in space.dimensions])
    processes = {}
    for name, (told, y_N) in targets.items():
        z_ND = _units(space, space.encode([one.params for one in told]))
        nearest_N = np.argsort(cdist(z_ND, _units(space, near_FD)).min(axis=1), kind="stable")[:CONDITION_ON]
        z_ND, y_N = z_ND[nearest_N], y_N[nearest_N]
        if name in kept:
            theta_P = np.array(kept[name])
        else:
            theta_P = gp.fitted(dimension_D, z_ND[:FIT_TO], y_N[:FIT_TO], near=start.get(name))
        processes[name] = gp.condition(theta_P, dimension_D, z_ND, y_N)
    return processes


def _units(space: Space, x_ND: Array) -> Array:
    """Points in search scales from the centre: what the processes work in."""
    return (x_ND - space.centre_D) / space.scale_D
