"""What a recipe states is what happens: coverage of its intervals and size of its regrets over studies by simulation.

Studies have the scatter between scales that the laws assume (0.15 octaves), and a target eight times as wide as the
widest proxy.
"""

import numpy as np
import pytest

from tests.recommend.simulated import Outcome, batch_study, means, width_study

FOUR, SIX = (128, 256, 512, 1024), (64, 128, 256, 512, 1024, 2048)


def rms(errors: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def agree(outcomes: list[Outcome], factor: float) -> None:
    """Mean stated regrets are the realised ones' within a factor and two standard errors."""
    stated, realised, error = means(outcomes)
    assert (stated <= factor * (realised + 2 * error)).all(), (stated, realised, error)
    assert (stated >= (realised - 2 * error) / factor).all(), (stated, realised, error)


@pytest.fixture(scope="module")
def true_theory() -> list[Outcome]:
    return [width_study(seed, widths=FOUR, exponent=0.0) for seed in range(16)]


def test_intervals_hold_the_truth_and_regrets_come_true(true_theory: list[Outcome]) -> None:
    assert sum(outcome.covered for outcome in true_theory) >= 13
    agree(true_theory, 2.0)


def test_where_theory_is_true_the_average_beats_the_measurement(true_theory: list[Outcome]) -> None:
    averaged, measured = ([getattr(o, name) for o in true_theory] for name in ("error", "measured_error"))
    assert rms(averaged) < 0.8 * rms(measured)


def test_where_theory_is_false_it_loses_its_weight() -> None:
    drifting = [width_study(seed, widths=SIX, exponent=-0.3) for seed in range(6)]
    assert max(outcome.theory for outcome in drifting) < 0.05
    still = [width_study(seed, widths=SIX, exponent=0.0) for seed in range(3)]
    assert min(outcome.theory for outcome in still) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("widths", "exponent", "claims"),
    [(FOUR, 0.0, ("width",)), (FOUR, -0.4, ()), (SIX, -0.3, ("width",)), (SIX, 0.0, ("width",))],
)
def test_many_studies(widths: tuple[int, ...], exponent: float, claims: tuple[str, ...]) -> None:
    outcomes = [width_study(seed, widths=widths, exponent=exponent, claims=claims) for seed in range(100, 200)]
    assert 0.88 <= np.mean([outcome.covered for outcome in outcomes]) <= 1.0
    agree(outcomes, 1.5)
    if claims and exponent == 0:
        assert rms([o.error for o in outcomes]) < 0.75 * rms([o.measured_error for o in outcomes])
    elif claims:
        assert np.mean([o.theory for o in outcomes]) < 0.05


@pytest.mark.slow
def test_many_studies_of_rate_and_batch() -> None:
    outcomes = [batch_study(seed) for seed in range(100, 160)]
    assert 0.88 <= np.mean([outcome.covered for outcome in outcomes]) <= 1.0
    agree(outcomes, 1.5)
