"""Synthetic learning curves, and a caller that knows nothing of pruners: ask, report, should_prune, tell."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from scalelab.pruners.continuing import CONTINUES

SPACE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}


@dataclass(frozen=True, kw_only=True)
class Curves:
    """loss(t) = E + A t^−a and noise; E is lowest at (0.3, 0.6), A and a are the configuration's own."""

    seed: int = 0
    noise: float = 0.01

    def __call__(self, params: dict[str, float], step: int) -> float:
        own = np.random.default_rng([self.seed, *(int(2**32 * params[name]) for name in SPACE)])
        floor = 2.0 + 2 * (params["x"] - 0.3) ** 2 + (params["y"] - 0.6) ** 2 + 0.02 * own.random()
        amplitude, exponent = own.uniform(1, 2), own.uniform(0.3, 0.6)
        wiggle = self.noise * np.random.default_rng([int(2**32 * own.random()), step]).normal()
        return float(floor + amplitude * step**-exponent + wiggle)


@dataclass
class Trainer:
    """Runs trials to `horizon`, reporting at powers of `eta`; a run that is continued costs only what is added."""

    curves: Curves
    horizon: int
    eta: int = 3
    spent: int = 0
    decisions: dict[int, list[tuple[int, bool]]] = field(default_factory=dict)

    def run(self, study: optuna.Study, trials: int, *, asks_at_end: bool = True) -> None:
        for _ in range(trials):
            self.one(study, asks_at_end=asks_at_end)

    def one(self, study: optuna.Study, *, asks_at_end: bool = True) -> optuna.trial.FrozenTrial:
        trial = study.ask(SPACE)
        before = trial.user_attrs.get(CONTINUES)
        start = 0 if before is None else study.trials[before].last_step
        assert start is not None
        pruned, step = False, start
        for step in (step for step in self.steps() if step > start):
            trial.report(self.curves(trial.params, step), step)
            if step < self.horizon or asks_at_end:
                pruned = trial.should_prune()
                self.decisions.setdefault(trial.number, []).append((step, pruned))
            if pruned:
                break
        self.spent += step - start
        if pruned:
            return study.tell(trial, state=TrialState.PRUNED)
        return study.tell(trial, self.curves(trial.params, self.horizon))

    def steps(self) -> Sequence[int]:
        steps = [1]
        while steps[-1] < self.horizon:
            steps.append(min(steps[-1] * self.eta, self.horizon))
        return steps


def study_of(
    pruner: BasePruner, sampler: BaseSampler, storage: BaseStorage | None = None, name: str = "s"
) -> optuna.Study:
    return optuna.create_study(
        study_name=name, storage=storage or optuna.storages.InMemoryStorage(), pruner=pruner, sampler=sampler,
        load_if_exists=True,
    )  # fmt: skip
