"""Worlds of a learning rate and a horizon D whose laws are known: one as LawSampler expects, one that bends."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from scalelab.samplers.law.sampler import LawSampler

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "D": FloatDistribution(1e8, 1e11, log=True),
}
TARGET = {"D": 1e11}
EXPONENT, ALPHA = -0.25, 0.3
CURVATURE, SKEW = 0.03, 0.6
BENDS_AT = 3e9

Params = Mapping[str, Any]


@dataclass(frozen=True)
class World:
    """Losses of Hoffmann's floor and a linex valley about an optimum that moves as a power law of the horizon, and is
    `bend` e-folds lower than that beyond some horizon; a run's noise is a share of its loss."""

    bend: float = 0.0
    noise: float = 0.002

    def best_lr(self, d: float) -> float:
        return float(3e-3 * (d / 1e9) ** EXPONENT * math.exp(-self.bend * (d > BENDS_AT)))

    def off(self, params: Params) -> float:
        """E-folds from the optimum."""
        return math.log(params["lr"] / self.best_lr(params["D"]))

    def loss(self, params: Params) -> float:
        u = SKEW * self.off(params)
        return float(1.8 + 1.5 * (params["D"] / 1e8) ** -ALPHA + CURVATURE * (math.exp(u) - 1 - u) / SKEW**2)

    def regret(self, params: Params) -> float:
        """As a share of the loss."""
        return self.loss(params) / self.loss({**params, "lr": self.best_lr(params["D"])}) - 1

    def told(self, params: Params, rng: np.random.Generator) -> float:
        return self.loss(params) * (1 + self.noise * rng.standard_normal())


LAWFUL = World()
BENT = World(bend=2.0)


def cost(params: Params) -> float:
    return float(params["D"])


def study_of(**given: Any) -> optuna.Study:
    usual = {"scales": ["D"], "target": TARGET, "cost": cost, "start": {"lr": 1e-3}, "seed": 0}
    return optuna.create_study(sampler=LawSampler(**{**usual, **given}))


def run(
    study: optuna.Study, count: int, world: World = LAWFUL, space: dict[str, BaseDistribution] = SPACE
) -> list[FrozenTrial]:
    """Ask and tell; a run's noise is that of its number, in whatever process."""
    for _ in range(count):
        trial = study.ask(space)
        study.tell(trial, world.told(trial.params, np.random.default_rng(trial.number)))
    return study.trials


def told(count: int, world: World = LAWFUL, *, seed: int = 0, most: float = 1e10) -> list[FrozenTrial]:
    """Runs about the optimum at horizons up to `most`, as if someone had made them before."""
    rng = np.random.default_rng(seed)
    trials = []
    for log_d, off in zip(
        rng.uniform(math.log(1e8), math.log(most), count), rng.uniform(-1.2, 1.2, count), strict=True
    ):
        d = math.exp(log_d)
        params = {"lr": world.best_lr(d) * math.exp(off), "D": d}
        trials.append(create_trial(params=params, distributions=SPACE, value=world.told(params, rng)))
    return trials


def study_told(trials: list[FrozenTrial], **given: Any) -> optuna.Study:
    study = study_of(**given)
    study.add_trials(trials)
    return study


def law_sampler(study: optuna.Study) -> LawSampler:
    assert isinstance(study.sampler, LawSampler)
    return study.sampler
