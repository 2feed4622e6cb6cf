"""What LawSampler believes of given runs: the posterior, the edge, what a run would say, what it recommends."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, create_trial

from scalelab.laws.law import Array
from scalelab.samplers.evidence import evidence
from scalelab.samplers.law import edge, fitting, misses
from scalelab.samplers.law.belief import KEPT, Runs, outlook
from scalelab.samplers.law.choice import JUMP, OF_SPENT, SHARE, allowed, search
from scalelab.samplers.law.coordinates import Coordinates
from scalelab.samplers.law.gain import gains, regret
from scalelab.samplers.law.mean import Law, Points
from scalelab.samplers.law.opening import Chosen
from scalelab.samplers.law.recommendation import Recommendation
from scalelab.samplers.law.scales import considered
from scalelab.samplers.law.target import Outlook, Unknown, best, spots_of, unknown_at
from tests.samplers.law_worlds import (
    ALPHA,
    BENT,
    EXPONENT,
    LAWFUL,
    SPACE,
    TARGET,
    World,
    cost,
    law_sampler,
    study_told,
    told,
)

COORDINATES = Coordinates.of(SPACE, scales=("D",), cost=cost, sizes={"D": {"D": 1.0}})
QUIET, QUIET_BENT = World(noise=0.001), World(bend=BENT.bend, noise=0.001)


def believed(trials: list[FrozenTrial], *, judged: bool = False) -> Outlook:
    runs = Runs.of(evidence(trials, SPACE), COORDINATES)
    return outlook(runs, COORDINATES, {"lr": 1e-3}, None, {}, np.random.default_rng(0), judged=judged)


def at(lr: float, d: float) -> Points:
    return COORDINATES.points([{"lr": lr, "D": d}])


def unknown_of(belief: Outlook) -> Unknown:
    target = spots_of(COORDINATES, TARGET)
    return unknown_at(target, belief, best(target, belief, np.random.default_rng(0)))


def recommended(trials: list[FrozenTrial]) -> Recommendation:
    study = study_told(trials)
    return law_sampler(study).recommend(study)


@pytest.fixture(scope="module")
def belief() -> Outlook:
    return believed(told(40))


# the posterior


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_known_law_is_recovered(seed: int) -> None:
    posterior = believed(told(40, seed=seed)).posterior
    mean_P, covariance_PP = posterior.parameters()
    for name, true in {"lr ~ D": EXPONENT, "floor ~ D": math.log(ALPHA)}.items():
        k = posterior.law.names.index(name)
        assert abs(mean_P[k] - true) < 3 * math.sqrt(covariance_PP[k, k]) < 3 * posterior.prior_sd_P[k] / 2
    assert LAWFUL.noise / 2 < posterior.noise < LAWFUL.noise * 2
    assert np.linalg.eigvalsh(covariance_PP).min() > -1e-9


def test_its_variance_is_the_diagonal_of_its_covariance_and_what_no_formula_describes(belief: Outlook) -> None:
    posterior = belief.posterior
    asked = posterior.law_at(COORDINATES.points([t.params for t in told(6, seed=9)]))
    at_bottom = posterior.law_at(at(math.exp(float(belief.optimum(at(1e-3, 1e9))[0, 0])), 1e9))
    covariance_NN = posterior.covariance(asked, asked)
    np.testing.assert_allclose(covariance_NN, covariance_NN.T, atol=1e-12)
    assert (posterior.variance(asked) >= np.diag(covariance_NN) - 1e-12).all()
    np.testing.assert_allclose(posterior.variance(at_bottom), np.diag(posterior.covariance(at_bottom, at_bottom)))
    np.testing.assert_allclose(posterior.covariance(asked, at_bottom), posterior.covariance(at_bottom, asked).T)


def test_what_runs_still_will_say_leaves_the_mean_and_lowers_the_variance(belief: Outlook) -> None:
    before = belief.posterior
    after = before.also(at(1e-3, 5e10))
    asked = before.law_at(COORDINATES.points([{"lr": lr, "D": d} for lr in (3e-4, 1e-3, 3e-3) for d in (1e9, 5e10)]))
    sd_N = np.sqrt(before.variance(asked))
    assert (np.abs(after.mean(asked) - before.mean(asked)) < 0.1 * sd_N).all()
    assert (after.variance(asked) <= before.variance(asked) + 1e-12).all()
    assert after.variance(asked)[3] < 0.6 * before.variance(asked)[3]


def test_one_run_gone_wrong_moves_nothing() -> None:
    trials = told(40)
    loss = LAWFUL.loss(trials[7].params) + 1.0
    wrong = create_trial(params=trials[7].params, distributions=SPACE, value=loss)
    with_it = recommended([*trials[:7], wrong, *trials[8:]])
    assert abs(math.log(with_it.params["lr"] / recommended(trials).params["lr"])) < 0.2


def test_runs_that_diverged_hold_the_optimum_below_them() -> None:
    few = told(4, seed=5)
    diverged = [create_trial(params={"lr": 3e-4, "D": d}, distributions=SPACE, value=math.inf) for d in (1e8, 1e9)]
    optimum = [float(believed(trials).optimum(at(1e-3, 1e9))[0, 0]) for trials in (few, few + diverged)]
    assert optimum[1] < math.log(3e-4) + 2 * fitting.BOUND_SD < optimum[0]


def test_of_many_runs_the_lowest_of_each_cost_are_kept() -> None:
    many = told(KEPT + 60)
    assert len(believed(many).posterior.runs.points) <= KEPT
    runs = Runs.of(evidence(many, SPACE), COORDINATES)
    assert runs.spent == pytest.approx(sum(t.params["D"] for t in many))
    assert runs.dearest == max(t.params["D"] for t in many)


# the edge


LAW = Law(sizes=("D",), hypers=("lr",), depth=0.25)
THETA_P = np.zeros(len(LAW.names))  # of an optimum at 0 everywhere


def edge_of(off_N: Array, diverged_N: Array) -> edge.Edge:
    return edge.fit(LAW, THETA_P, off(off_N), diverged_N, rates=[0])


def off(off_N: Array) -> Points:
    n = len(off_N)
    return Points(size_NT=np.zeros((n, 1)), cost_N=np.zeros(n), hyper_NH=off_N[:, None], other_NO=np.zeros((n, 0)))


def test_runs_are_safe_at_the_optimum_where_none_diverged_and_less_so_above() -> None:
    chance_N = edge_of(np.linspace(-1, 1, 12), np.zeros(12)).chance(off(np.linspace(-2, 5, 8)))
    assert (np.diff(chance_N) > 0).all()
    assert chance_N[2] < 0.02 and chance_N[-1] > 0.5


def test_the_more_diverge_the_likelier_it_is() -> None:
    chances: list[float] = []
    for count in (0, 1, 3, 6):
        off_N = np.append(np.linspace(-1, 1, 12), np.full(count, 1.5))
        chances.append(float(edge_of(off_N, (off_N == 1.5).astype(float)).chance(off(np.array([1.5])))[0]))
    assert chances == sorted(chances) and chances[0] < 0.2 and chances[-1] > 0.5


def test_a_million_times_too_high_is_as_far_as_it_goes() -> None:
    found = edge_of(np.array([0.0, 1e3]), np.array([0.0, 1.0]))
    np.testing.assert_array_equal(found.chance(off(np.array([6.0, -6.0]))), found.chance(off(np.array([1e6, -1e6]))))


# what a run would say


def test_a_gain_is_what_the_expected_regret_falls_by(belief: Outlook) -> None:
    unknown, posterior = unknown_of(belief), belief.posterior
    bottom = math.exp(float(belief.optimum(at(1e-3, 2e10))[0, 0]))
    for lr in (bottom * 0.7, bottom * 1.4):
        run = at(lr, 2e10)
        gain = gains(belief, posterior, unknown, run)[0] / (1 - belief.edge.chance(run)[0])
        fall = _expected(belief, unknown) - _expected(belief, unknown, run)
        assert 0 < gain < fall * 1.01 and gain == pytest.approx(fall, rel=0.2)  # less by what no formula describes


def _expected(belief: Outlook, unknown: Unknown, run: Points | None = None) -> float:
    """½ tr(H⁻¹ Σ)."""
    posterior = belief.posterior if run is None else belief.posterior.also(run)
    asked = posterior.law_at(unknown.points)
    slopes_AA = unknown.slope_AN @ posterior.covariance(asked, asked) @ unknown.slope_AN.T
    return float(0.5 * np.trace(unknown.inverse_AA @ slopes_AA))


def test_a_run_that_was_made_says_less_a_second_time(belief: Outlook) -> None:
    unknown, run = unknown_of(belief), at(2e-3, 2e10)
    first = gains(belief, belief.posterior, unknown, run)[0]
    second = gains(belief, belief.posterior.also(run), unknown, run)[0]
    elsewhere = gains(belief, belief.posterior.also(run), unknown, at(1e-3, 6e10))[0]
    assert second < 0.7 * first and second < elsewhere


def test_the_regret_falls_with_what_is_known(belief: Outlook) -> None:
    unknown = unknown_of(belief)
    before = regret(belief.posterior, unknown, np.random.default_rng(0))
    after = regret(belief.posterior.also(at(1e-3, 6e10)), unknown, np.random.default_rng(0))
    assert 0 < after.mean < before.mean < before.high and after.high < before.high
    assert before.mean == pytest.approx(_expected(belief, unknown), rel=0.2)


def test_the_next_run_is_another_where_it_runs_already_and_dearer_where_runs_cost_more_than_their_flops(
    belief: Outlook,
) -> None:
    runs = Runs.of(evidence(told(40), SPACE), COORDINATES)
    spots, target = considered(COORDINATES), spots_of(COORDINATES, TARGET)

    def chosen(runs: Runs, overhead: float = 1e8) -> Chosen:
        return search(belief, spots, target, runs, 1e10, math.inf, overhead, np.random.default_rng(0))

    alone = chosen(runs)
    beside = chosen(replace(runs, running=COORDINATES.points([alone.params])))
    assert alone.phase == beside.phase == "law" and alone.params != beside.params
    assert cost(chosen(runs, 1e5).params) < cost(chosen(runs, 1e11).params) <= 1e10


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({}, SHARE * 1e11),
        ({"target_flops": 1e12}, JUMP * 5e9),
        ({"spent": 1e11}, OF_SPENT * 1e11),
        ({"cap_flops": 2e9}, 2e9),
        ({"cap_flops": 1e13}, JUMP * 5e9),
        ({"left": 3e8}, 3e8),
        ({"dearest": 0.0}, 1e8),  # the cheapest
    ],
)
def test_what_the_next_run_may_cost(given: dict[str, float], most: float) -> None:
    usual: dict[str, Any] = {"target_flops": 1e11, "cap_flops": None, "left": math.inf, "spent": 2e10, "dearest": 5e9}
    usual |= given
    runs = replace(
        Runs.of(evidence(told(4), SPACE), COORDINATES), spent=usual.pop("spent"), dearest=usual.pop("dearest")
    )
    assert allowed(runs, considered=considered(COORDINATES), **usual) == pytest.approx(most)


# what it recommends


def test_intervals_hold_the_truth() -> None:
    found = [recommended(told(25, seed=seed)) for seed in range(10, 20)]
    assert sum(each.low < LAWFUL.loss(each.params) < each.high for each in found) >= 8
    for name, true in {"lr ~ D": EXPONENT, "floor ~ D": ALPHA}.items():
        assert sum(each.exponents[name].low < true < each.exponents[name].high for each in found) >= 8
    assert sum(LAWFUL.loss(each.params) * LAWFUL.regret(each.params) < each.regret_high for each in found) >= 8
    assert all(each.params["D"] == TARGET["D"] and each.exponents.keys() == {"lr ~ D", "floor ~ D"} for each in found)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_says_where_the_law_does_not_fit(seed: int) -> None:
    lawful, bent = (recommended(told(40, world, seed=seed, most=1e11)) for world in (QUIET, QUIET_BENT))
    assert lawful.fits and not lawful.warnings
    assert not bent.fits
    assert bent.warnings[0].startswith("the law does not fit these runs (evidence of ")
    assert bent.warnings[0].endswith("trust runs near the target's scale")


class TurningWorld(World):
    """Its best rate first rises and then falls: a parabola in ln D, which the law's own bends can follow."""

    def best_lr(self, d: float) -> float:
        return float(3e-3 * math.exp(-0.12 * math.log(d / 3e9) ** 2))


def test_it_says_where_an_optimum_follows_no_power_law(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = told(60, TurningWorld(noise=QUIET.noise), most=1e11)
    turning = recommended(trials)
    assert not turning.fits and turning.warnings  # misses or a bend: either will do
    monkeypatch.setattr(misses, "PRIOR", misses.PRIOR - np.array([10.0] * 4 + [0.0] * 2))
    alone = recommended(trials)
    assert not alone.fits
    assert any(said.startswith("the best lr follows no power law: its exponent in compute") for said in alone.warnings)


def test_what_the_law_misses_is_found_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = told(40, QUIET_BENT, most=1e11)
    with_misses = recommended(trials)
    monkeypatch.setattr(misses, "PRIOR", misses.PRIOR - np.array([10.0] * 4 + [0.0] * 2))
    alone = recommended(trials)
    assert QUIET_BENT.regret(with_misses.params) < 0.002 < 0.004 < QUIET_BENT.regret(alone.params)
    assert not alone.low < QUIET_BENT.loss(alone.params) < alone.high
    assert with_misses.low < QUIET_BENT.loss(with_misses.params) < with_misses.high


def test_it_says_that_runs_are_few_and_the_target_is_far() -> None:
    warnings = recommended(told(3, most=1e9)).warnings
    assert any("times the dearest run that ended: confirm at a scale between" in said for said in warnings)
    assert "3 runs ended, few for 1 hyperparameters: much of this is the prior's" in warnings
