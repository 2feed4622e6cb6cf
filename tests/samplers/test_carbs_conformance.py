"""Optuna's own sampler tests. Those of one objective see a loss at a cost of 1, which CarbsSampler itself refuses."""

import copy
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)
from optuna.trial import FrozenTrial, TrialState

from scalelab.samplers.carbs import sampler as carbs


class AtUnitCost(carbs.CarbsSampler):
    def _trials(self, study: optuna.Study) -> list[FrozenTrial]:
        return [_at_unit_cost(trial) for trial in super()._trials(study)]


def _at_unit_cost(trial: FrozenTrial) -> FrozenTrial:
    if trial.state is not TrialState.COMPLETE:
        return trial
    told = copy.copy(trial)
    told.values = [trial.values[0], 1.0]
    return told


@pytest.fixture
def one_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carbs, "check_directions", lambda study: None)


@pytest.mark.usefixtures("one_objective")
class TestOneObjective(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture(params=[{}, {"opening": 1}], ids=["opening", "search"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        given: dict[str, Any] = request.param
        return lambda: AtUnitCost(seed=0, **given)


class TestTwoObjectives(MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: carbs.CarbsSampler(seed=0)
