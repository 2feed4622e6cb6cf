"""Optuna's own sampler tests, on LawSampler without scales: all runs are of the target's size and cost the same."""

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase

from scalelab.samplers.law import fitting
from scalelab.samplers.law.sampler import LawSampler


def without_scales() -> LawSampler:
    return LawSampler(scales=(), target={}, cost=lambda params: 1.0, seed=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested are types and bounds, which do not depend on how well the law is fitted."""
    monkeypatch.setattr(fitting, "TURNS", 1)


class TestOneObjective(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return without_scales


class TestTwoObjectives(MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return without_scales
