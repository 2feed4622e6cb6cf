"""CARBS in pieces: process (against scikit-learn's), acquisition, scores, front; and how a trial is read."""

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

from scalelab.errors import Refused
from scalelab.samplers.attributes import read, write
from scalelab.samplers.carbs import gp
from scalelab.samplers.carbs.acquisition import log_expected_improvement
from scalelab.samplers.carbs.front import front, measured
from scalelab.samplers.carbs.outputs import NormalScores
from scalelab.samplers.evidence import Outcome, evidence
from scalelab.samplers.space import Space

DIMENSION_D = np.array([0, 1, 2, 2])
SPACE = {"x": FloatDistribution(0.0, 1.0)}


def points(count: int, seed: int = 0) -> tuple[gp.Array, gp.Array]:
    rng = np.random.default_rng(seed)
    z_ND = rng.normal(size=(count, 4))
    return z_ND, np.sin(z_ND[:, 0]) + 0.3 * z_ND[:, 1] + 0.1 * rng.normal(size=count)


def test_the_process_is_that_of_scikit_learn() -> None:
    z_ND, y_N = points(40)
    theta_P = np.log([1.3, 0.2, 0.4, 0.8, 1.5, 2.5])
    linear = ConstantKernel(0.4**2) * DotProduct(1 / 0.4)
    kernel = linear + ConstantKernel(1.3**2) * Matern([0.8, 1.5, 2.5, 2.5], nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=0.2**2, optimizer=None).fit(z_ND, y_N)
    z_MD, _ = points(20, seed=1)
    mean_M, sd_M = gp.condition(theta_P, DIMENSION_D, z_ND, y_N).predict(z_MD)
    their_mean_M, their_sd_M = theirs.predict(z_MD, return_std=True)
    np.testing.assert_allclose(mean_M, their_mean_M, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(sd_M, their_sd_M, rtol=1e-6)
    assert gp._surprise(theta_P, DIMENSION_D, z_ND, y_N)[0] == pytest.approx(-theirs.log_marginal_likelihood_value_)


def test_its_gradient_is_that_of_differences() -> None:
    z_ND, y_N = points(30)
    theta_P = np.log([1.3, 0.2, 0.4, 0.8, 1.5, 2.5])
    steps_PP = 1e-6 * np.eye(len(theta_P))
    differences_P = [
        (gp._surprise(theta_P + step, DIMENSION_D, z_ND, y_N)[0]
         - gp._surprise(theta_P - step, DIMENSION_D, z_ND, y_N)[0]) / 2e-6
        for step in steps_PP
    ]  # fmt: skip
    np.testing.assert_allclose(gp._surprise(theta_P, DIMENSION_D, z_ND, y_N)[1], differences_P, rtol=1e-5, atol=1e-6)


def test_fitting_learns_which_dimensions_matter_and_the_noise() -> None:
    z_ND, y_N = points(150)
    theta_P = gp.fitted(DIMENSION_D, z_ND, y_N, near=None)
    signal, noise, slope, *lengths = np.exp(theta_P)
    assert 0.07 < noise < 0.14 and slope > 0.1 and signal > 0.3
    assert lengths[0] < lengths[2] / 3
    again_P = gp.fitted(DIMENSION_D, z_ND, y_N, near=theta_P.tolist())
    np.testing.assert_allclose(again_P, theta_P, atol=0.1)


def test_a_covariance_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="the surrogate of 2 observations cannot be fitted"):
        gp.condition(np.full(6, np.nan), DIMENSION_D, np.zeros((2, 4)), np.zeros(2))


def test_expected_improvement_is_the_textbooks_and_never_underflows() -> None:
    u_M = np.array([-20.0, -3.0, -1.0, 0.0, 2.0, 30.0])
    with np.errstate(divide="ignore"):
        textbook_M = np.log(2 * (norm.pdf(u_M) + u_M * norm.cdf(u_M)))
    ours_M = log_expected_improvement(-2 * u_M, np.full(6, 2.0), np.zeros(6))
    np.testing.assert_allclose(ours_M, textbook_M, rtol=1e-6)
    far_M = log_expected_improvement(np.geomspace(1e2, 1e9, 8), np.ones(8), np.zeros(8))
    assert np.isfinite(far_M).all() and (np.diff(far_M) < 0).all()


def test_scores_are_normal_invertible_and_go_on_beyond_what_was_seen() -> None:
    losses_N = np.random.default_rng(0).lognormal(size=400)
    scores = NormalScores.of(losses_N)
    assert abs(np.median(scores.scores(losses_N))) < 0.1 and 0.7 < scores.scores(losses_N).std() < 1.3
    x_M = np.linspace(-5, 50, 200)
    assert (np.diff(scores.scores(x_M)) > 0).all()
    np.testing.assert_allclose(scores.losses(scores.scores(x_M)), x_M, atol=1e-8)
    np.testing.assert_array_equal(NormalScores.of(np.full(9, 2.0)).scores(np.array([2.0, 3.0])), [0.0, 0.0])


def told(loss: float, cost: float, x: float, **rest: Any) -> FrozenTrial:
    return create_trial(params={"x": x}, distributions=dict(SPACE), values=[loss, cost], **rest)


def test_the_front_is_optunas_with_replicates_by_their_mean() -> None:
    rng = np.random.default_rng(0)
    study = optuna.create_study(directions=["minimize", "minimize"])
    cost_N = rng.lognormal(size=40)
    trials = [
        told(cost**-0.5 + 0.3 * rng.random(), cost, x) for cost, x in zip(cost_N, np.linspace(0, 1, 40), strict=True)
    ]
    study.add_trials(trials)
    ended = measured(evidence(study.trials, SPACE), Space.of(SPACE))
    ours = [float(x) for x in ended.x_GD[front(ended), 0]]
    theirs = [trial.params["x"] for trial in sorted(study.best_trials, key=lambda trial: trial.values[1])]
    assert ours == theirs[len(theirs) - len(ours) :] and len(ours) > 2
    cheap = sum(trial.values[1] <= np.quantile(cost_N, 0.2) for trial in study.best_trials)
    assert len(theirs) - len(ours) == cheap - 1
    lucky = min(study.best_trials, key=lambda trial: trial.values[0])
    study.add_trials([told(99.0, lucky.values[1], lucky.params["x"])])
    ended = measured(evidence(study.trials, SPACE), Space.of(SPACE))
    assert lucky.params["x"] not in ended.x_GD[front(ended), 0]


@pytest.mark.parametrize(
    ("trial", "outcome"),
    [
        (told(1.0, 2.0, 0.5), Outcome.OK),
        (told(math.inf, 2.0, 0.5), Outcome.DIVERGED),
        (told(-math.inf, 2.0, 0.5), Outcome.DIVERGED),
        (told(1.0, 2.0, 0.5, user_attrs={"outcome": "DIVERGED"}), Outcome.DIVERGED),
        (told(1.0, 2.0, 0.5, user_attrs={"outcome": "FAILED"}), None),
        (create_trial(state=TrialState.FAIL, params={"x": 0.5}, distributions=dict(SPACE)), None),
        (create_trial(state=TrialState.PRUNED, params={"x": 0.5}, distributions=dict(SPACE)), None),
        (create_trial(state=TrialState.FAIL, params={"x": 0.5}, distributions=dict(SPACE),
                      user_attrs={"outcome": "DIVERGED"}), Outcome.DIVERGED),
        (create_trial(state=TrialState.PRUNED, params={"x": 0.5}, distributions=dict(SPACE),
                      intermediate_values={1: 2.0, 2: math.nan}), Outcome.DIVERGED),
        (create_trial(state=TrialState.FAIL, params={"x": 0.5}, distributions=dict(SPACE),
                      intermediate_values={1: math.nan, 2: 2.0}), None),
        (create_trial(state=TrialState.RUNNING, params={"x": 0.5}, distributions=dict(SPACE)), Outcome.RUNNING),
        (create_trial(state=TrialState.WAITING), None),
        (create_trial(state=TrialState.RUNNING), None),
        (told(1.0, math.inf, 0.5, user_attrs={"outcome": "DIVERGED"}), Outcome.DIVERGED),
    ],
)  # fmt: skip
def test_how_a_trial_is_read(trial: FrozenTrial, outcome: Outcome | None) -> None:
    assert [seen.outcome for seen in evidence([trial], SPACE)] == [outcome] * (outcome is not None)


@pytest.mark.parametrize("cost", [0.0, -1.0, math.inf])
def test_a_cost_that_is_none_is_refused(cost: float) -> None:
    with pytest.raises(Refused, match=r"trial -1 has a cost of .*: accepted is a positive number"):
        evidence([told(1.0, cost, 0.5)], SPACE)


def test_long_attributes_come_back_and_half_written_ones_do_not() -> None:
    study = optuna.create_study()
    asked = study.ask()
    value = {"theta": np.random.default_rng(0).normal(size=500).tolist()}
    write(study, study.trials[0], "long", value)
    assert read(study.trials[0], "long") == value
    study._storage.set_trial_system_attr(asked._trial_id, "half:0", '{"theta": [1.0,')
    assert read(study.trials[0], "half") is None and read(study.trials[0], "none") is None
