"""Stopping by learning curves: how often it is wrong, what it saves, and when it keeps still."""

import math
from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from scalelab.errors import Refused
from scalelab.pruners.curve import CurvePruner
from tests.pruners.curves import Curves, Trainer, study_of

HORIZON = 100
Drops = Sequence[float]


def curve(end: float, drops: Drops, steps: Sequence[int]) -> dict[int, float]:
    return {**{step: end + drop for step, drop in zip(steps, drops, strict=True)}, HORIZON: end}


def calibrated(pruner: CurvePruner, drops: Sequence[Drops], steps: Sequence[int], end: float = 1.0) -> optuna.Study:
    study = study_of(pruner, RandomSampler(seed=0))
    study.add_trials([create_trial(value=end, intermediate_values=curve(end, these, steps)) for these in drops])
    return study


def is_stopped(study: optuna.Study, reports: dict[int, float]) -> bool:
    trial = study.ask()
    stopped = False
    for step, loss in reports.items():
        trial.report(loss, step)
        stopped = stopped or trial.should_prune()
    study.tell(trial, state=TrialState.PRUNED if stopped else TrialState.FAIL)
    return stopped


def wrong_stops(studies: int, rungs: Sequence[float], *, grow: float = 1.0) -> float:
    """Of runs that would all have ended just below the best, how many are stopped.

    A run falls by an exponential amount, shared by its rungs to a random part; later runs by `grow` times that.
    """
    rng, wrong = np.random.default_rng(0), 0
    steps = [int(HORIZON * rung) for rung in rungs]
    for _ in range(studies):
        pruner = CurvePruner(risk=0.1, rungs=rungs)
        drops = rng.exponential(size=(10 * len(rungs), 1)) * rng.uniform(0.5, 1, size=(10 * len(rungs), len(rungs)))
        drops[-1] *= grow
        study = calibrated(pruner, drops[:-1].tolist(), steps)
        wrong += is_stopped(study, curve(1.0 - 1e-9, drops[-1].tolist(), steps))
    return wrong / studies


def test_one_rung_is_wrong_as_often_as_it_says() -> None:
    """The worst case, in which every stop is wrong: with 9 calibration trials a risk of 0.1 is met exactly."""
    studies = 1000
    error = math.sqrt(0.1 * 0.9 / studies)
    assert wrong_stops(studies, [0.5]) == pytest.approx(0.1, abs=3 * error)


def test_several_rungs_together_are_wrong_no_more_often_than_it_says() -> None:
    studies = 400
    error = math.sqrt(0.1 * 0.9 / studies)
    assert 0 < wrong_stops(studies, [0.2, 0.5, 0.8]) <= 0.1 + 3 * error


def test_the_risk_does_not_hold_where_later_runs_fall_further() -> None:
    assert wrong_stops(200, [0.5], grow=4.0) > 0.3


def test_it_saves_and_finds_the_same() -> None:
    """Learning curves of a random search: a full run is 81 reports' worth."""
    saved, lost = [], 0
    for seed in range(5):
        curves = Curves(seed=seed)
        trainer, full = Trainer(curves, 81), Trainer(curves, 81)
        study = study_of(CurvePruner(risk=0.1, rungs=[1 / 3]), RandomSampler(seed=seed))
        other = study_of(optuna.pruners.NopPruner(), RandomSampler(seed=seed))
        trainer.run(study, 60)
        full.run(other, 60)
        saved.append(1 - trainer.spent / full.spent)
        lost += study.best_value > other.best_value
        assert all(trial.state is TrialState.COMPLETE for trial in study.trials[:9])
    assert np.mean(saved) > 0.3
    assert lost <= 1


def test_nothing_is_stopped_by_too_few() -> None:
    pruner = CurvePruner(risk=0.05, rungs=[0.5])
    for trials, stopped in [(0, False), (18, False), (19, True)]:
        assert is_stopped(calibrated(pruner, [[0.1]] * trials, [50]), {50: 9.0}) is stopped


def test_a_run_is_stopped_above_the_bound_only() -> None:
    drops = [[0.01 * number] for number in range(1, 20)]  # the bound is the largest of 19, 0.19
    study = calibrated(CurvePruner(risk=0.05, rungs=[0.5]), drops, [50])
    assert not is_stopped(study, {50: 1.189})
    assert is_stopped(study, {50: 1.191})
    assert not is_stopped(study, {49: 9.0}) and not is_stopped(study, {HORIZON: 9.0})
    study = calibrated(CurvePruner(risk=0.1, rungs=[0.5], min_trials=19), drops, [50])
    assert is_stopped(study, {50: 1.181})  # the 18th of 19


def test_only_the_first_calibrate_and_none_of_them_is_stopped() -> None:
    study = calibrated(CurvePruner(risk=0.5, rungs=[0.5], min_trials=3), [[0.1]] * 2, [50])
    early = study.ask()
    study.add_trials([create_trial(value=1.0, intermediate_values=curve(1.0, [0.1], [50])) for _ in range(4)])
    early.report(9.0, 50)
    assert early.should_prune() is False  # it may yet be among the first three
    assert is_stopped(study, {50: 1.2})
    study.tell(early, 1.0)  # with 100 as its last report it would calibrate
    assert is_stopped(study, {50: 1.2})


def test_reports_may_be_in_any_order_and_missing() -> None:
    drops = [[0.1, 0.2]] * 19
    study = calibrated(CurvePruner(rungs=[0.5]), drops, [60, 55])  # kept in this order
    assert is_stopped(study, {10: 9.0, 60: 9.0}) and is_stopped(study, {55: 9.0})
    assert not is_stopped(study, {57: 9.0})  # nobody has reported there
    trial = study.ask()
    for step in (55, 60):  # 55 is where it is judged; asked only later, it is left alone
        trial.report(9.0, step)
    assert trial.should_prune() is False
    assert not is_stopped(study, {})


def test_a_trial_that_did_not_report_at_the_rung_leaves_too_few() -> None:
    study = calibrated(CurvePruner(rungs=[0.5]), [[0.1]] * 18, [50])
    study.add_trial(create_trial(value=1.0, intermediate_values={HORIZON: 1.0}))
    assert not is_stopped(study, {50: 9.0})
    study.add_trial(create_trial(value=1.0, intermediate_values=curve(1.0, [0.1], [50])))
    assert not is_stopped(study, {50: 9.0})  # the twentieth is no calibration trial


def test_a_shorter_trial_says_nothing_of_a_longer_one() -> None:
    study = calibrated(CurvePruner(rungs=[0.5]), [[0.1]] * 19, [50])
    assert is_stopped(study, {50: 9.0})
    study.add_trial(create_trial(value=1.0, intermediate_values={50: 2.0, 2 * HORIZON: 1.0}))
    assert not is_stopped(study, {HORIZON: 9.0})
    fixed = calibrated(CurvePruner(rungs=[0.5], horizon=HORIZON), [[0.1]] * 19, [50])
    fixed.add_trial(create_trial(value=1.0, intermediate_values={50: 2.0, 2 * HORIZON: 1.0}))
    assert is_stopped(fixed, {50: 9.0})


def test_a_nan_stops_at_once_and_an_infinite_loss_is_a_loss() -> None:
    empty = calibrated(CurvePruner(), [], [])
    assert is_stopped(empty, {1: math.nan}) and not is_stopped(empty, {1: math.inf})
    study = calibrated(CurvePruner(rungs=[0.5]), [[0.1]] * 19, [50])
    assert is_stopped(study, {50: math.inf}) and not is_stopped(study, {40: math.inf})


def test_trials_that_diverged_calibrate() -> None:
    """One of twenty ended at ∞: it fell by −∞, and the bound is that of the others."""
    study = calibrated(CurvePruner(rungs=[0.5]), [[0.1]] * 18, [50])
    study.add_trial(create_trial(value=math.inf, intermediate_values={50: 3.0, HORIZON: math.inf}))
    assert is_stopped(study, {50: 1.2}) and not is_stopped(study, {50: 1.05})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"risk": 0.0}, "above 0 and below 1"),
        ({"risk": 1.0}, "above 0 and below 1"),
        ({"rungs": []}, "fractions of the horizon"),
        ({"rungs": [0.5, 1.0]}, "fractions of the horizon"),
        ({"rungs": [0.5, 0.5]}, "fractions of the horizon"),
        ({"risk": 0.05, "rungs": [0.2, 0.5], "min_trials": 38}, "at least 39"),
        ({"horizon": 0}, "tokens of a full run"),
    ],
)
def test_arguments_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(Refused, match=said):
        CurvePruner(**given)  # type: ignore[arg-type]


def test_a_study_that_maximises_is_refused() -> None:
    study = optuna.create_study(direction="maximize", pruner=CurvePruner())
    trial = study.ask()
    trial.report(1.0, 1)
    with pytest.raises(Refused, match="maximizes"):
        trial.should_prune()
