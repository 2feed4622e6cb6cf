"""The solver against independent ones: optima, covariances, resamples and profiles of laws whose answers are known.

A log-linear law (`kaplan_data`: ln loss = α ln D_c − α ln D) is a linear regression in other coordinates, of which
statsmodels knows the exact answers. The coordinate α is the regression's slope on −ln D.
"""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import least_squares, linprog
from scipy.optimize import minimize as scipy_minimize
from scipy.stats import norm

from scalelab.errors import Refused
from scalelab.laws.forms import LAWS
from scalelab.laws.law import Array, Law, Parameter
from scalelab.laws.solve.bootstrap import bootstrap, simulated, stretch
from scalelab.laws.solve.covariance import covariance
from scalelab.laws.solve.fit import fit_observations, point
from scalelab.laws.solve.least_squares import minimise
from scalelab.laws.solve.objective import LEAST_ABSOLUTE, LEAST_SQUARES, Objective
from scalelab.laws.solve.optimum import best
from scalelab.laws.solve.problem import Problem
from scalelab.laws.solve.profile import profile
from scalelab.laws.solve.refit import refit
from tests.laws.synthetic import observed, problem, seen, truth, typical

CHINCHILLA, LINE = LAWS["chinchilla"], LAWS["kaplan_data"]
ALPHA = 1  # the place of the line's slope among its coordinates

# ln loss = c·x: the one-parameter law whose every quantity can be written down.
SLOPE = Law(
    name="slope", inputs=("tokens",), output="loss_nats", form="loss = exp(c·D)", source="here",
    parameters={"c": Parameter(meaning="", typical=1.0, positive=False)},
    value=lambda p, x: np.exp(p["c"] * x["tokens"]),
)  # fmt: skip


@pytest.fixture
def runs(rng):
    """60 runs of Chinchilla's law, six of them far off, as real tables have them."""
    found = observed(CHINCHILLA, rng, 60, noise=0.004)
    found.output_N[::10] *= 1.05
    return found


@pytest.fixture
def line(rng):
    return observed(LINE, rng, 40, noise=0.01)


def regression(rows, **options):
    """The same law as a linear regression of ln loss on −ln D."""
    design = sm.add_constant(-np.log(rows.inputs["tokens"]))
    return sm.OLS(np.log(rows.output_N), design).fit(**options)


def by_scipy(asked: Problem, starts_RP: Array) -> float:
    """The lowest objective that general optimizers find: least squares from every start, then a simplex on ρ itself."""
    loss = {} if np.isinf(asked.objective.delta) else {"loss": "huber", "f_scale": asked.objective.delta}
    with np.errstate(over="ignore"):
        ends = [
            least_squares(
                lambda x: asked.residuals(x[None])[0][0], start_P, lambda x: asked.residuals(x[None])[1][0],
                x_scale="jac", xtol=1e-13, ftol=1e-13, gtol=1e-13, max_nfev=500, **loss,
            ).x
            for start_P in starts_RP
        ]  # fmt: skip
        lowest = min(ends, key=lambda x: float(asked.value(x[None])[0]))
        polished = scipy_minimize(lambda x: float(asked.value(x[None])[0]), lowest, method="Nelder-Mead",
                                  options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 2000})  # fmt: skip
    return float(polished.fun)


@pytest.mark.parametrize("delta", [1e-3, 1e-2, np.inf])
@pytest.mark.parametrize("space", ["log", "linear"])
def test_no_general_optimizer_finds_a_lower_objective(runs, delta, space):
    asked = problem(CHINCHILLA, runs, Objective(delta=delta, space=space))
    found = best(asked)
    around_RP = found.theta_P + np.random.default_rng(0).normal(0, 0.3, size=(3, 5))
    assert found.value <= by_scipy(asked, np.concatenate([around_RP, found.theta_P[None]])) * (1 + 1e-6)
    assert found.reached >= 2


def test_least_squares_of_a_line_are_those_of_statsmodels(line):
    oracle = regression(line)
    found = best(problem(LINE, line)).theta_P
    assert found[ALPHA] == pytest.approx(oracle.params[1], rel=1e-7)
    assert found[0] * found[ALPHA] == pytest.approx(oracle.params[0], rel=1e-7)


def test_least_absolute_deviations_of_a_line_are_those_of_a_linear_program(line):
    """min Σ(u + v) with u − v = y − Xb, u, v ≥ 0: exact, so that only the corner's rounding is left (δ = 1e-9)."""
    design = sm.add_constant(-np.log(line.inputs["tokens"]))
    n = len(line)
    program = linprog(
        np.r_[0, 0, np.ones(2 * n)], A_eq=np.hstack([design, np.eye(n), -np.eye(n)]), b_eq=np.log(line.output_N),
        bounds=[(None, None)] * 2 + [(0, None)] * (2 * n),
    )  # fmt: skip
    found = best(problem(LINE, line, LEAST_ABSOLUTE))
    assert found.value / LEAST_ABSOLUTE.delta == pytest.approx(program.fun, rel=1e-4)
    assert found.theta_P[ALPHA] == pytest.approx(program.x[1], abs=2e-4)


def test_least_squares_in_loss_are_not_those_in_log_loss(runs):
    linear, log = (best(problem(CHINCHILLA, runs, Objective(space=space))).theta_P for space in ("linear", "log"))
    asked = problem(CHINCHILLA, runs)
    error_N = np.exp(asked.residuals(linear[None])[0][0]) * runs.output_N - runs.output_N
    assert float((error_N**2).sum()) / 2 == pytest.approx(
        float(problem(CHINCHILLA, runs, Objective(space="linear")).value(linear[None])[0]), rel=1e-10
    )
    assert not np.allclose(linear, log, rtol=1e-3)


def test_convergence_from_bad_starts(runs):
    """From exponents of 0.05 to 1.5 and coefficients many orders of magnitude off, most starts end at the optimum."""
    asked = problem(CHINCHILLA, runs)
    lowest = best(asked)
    start_RP = np.random.default_rng(1).uniform([-1, 1, 1, 0.1, 0.1], [1, 15, 15, 0.9, 0.9], size=(64, 5))
    solved = minimise(asked.residuals, asked.objective, start_RP, most=500)
    assert solved.converged_R.all()
    assert (solved.value_R < lowest.value * (1 + 1e-6)).mean() > 0.6


def test_problems_without_a_value_do_not_spoil_the_batch(runs):
    asked = problem(CHINCHILLA, runs)
    good_P = asked.coordinates(typical(CHINCHILLA))[0]
    bad_RP = np.array([[np.nan] * 5, [800.0] * 5, [0.0, 299.0, 299.0, -300.0, -300.0]])
    alone = minimise(asked.residuals, asked.objective, good_P[None])
    mixed = minimise(asked.residuals, asked.objective, np.stack([bad_RP[0], good_P, bad_RP[1], good_P, bad_RP[2]]))
    for row in (1, 3):
        assert mixed.theta_RP[row] == pytest.approx(alone.theta_RP[0], abs=1e-10)
        assert mixed.value_R[row] == pytest.approx(alone.value_R[0])
    assert np.isinf(mixed.value_R[0])


@pytest.mark.parametrize("delta", [1e-2, np.inf])
def test_weights_are_repeated_rows(runs, delta):
    objective = Objective(delta=delta)
    count_N = np.random.default_rng(2).integers(0, 4, size=len(runs))
    rows = np.repeat(np.arange(len(runs)), count_N)
    again = seen({name: values[rows] for name, values in runs.inputs.items()}, runs.output_N[rows])
    asked = problem(CHINCHILLA, runs, objective)
    start = best(asked).theta_P[None]
    weighted = minimise(asked.residuals, objective, start, weight_RN=count_N[None].astype(float), tolerance=1e-13)
    repeated = minimise(problem(CHINCHILLA, again, objective).residuals, objective, start, tolerance=1e-13)
    assert weighted.value_R == pytest.approx(repeated.value_R, rel=1e-9)
    assert weighted.theta_RP == pytest.approx(repeated.theta_RP, abs=1e-5)


def test_a_shift_is_other_observations(runs):
    error_N = 0.01 * np.random.default_rng(3).standard_normal(len(runs))
    asked, moved = (
        problem(CHINCHILLA, runs),
        problem(CHINCHILLA, replace(runs, output_N=runs.output_N * np.exp(error_N))),
    )
    start = best(asked).theta_P[None]
    shifted = minimise(asked.residuals, LEAST_SQUARES, start, shift_RN=error_N[None], tolerance=1e-13)
    direct = minimise(moved.residuals, LEAST_SQUARES, start, tolerance=1e-13)
    assert shifted.theta_RP == pytest.approx(direct.theta_RP, abs=1e-6)


def test_held_coordinates_stay_and_the_others_are_at_their_best(line):
    asked = problem(LINE, line)
    start = best(asked).theta_P + np.array([0.0, 0.01])
    solved = minimise(asked.residuals, LEAST_SQUARES, start[None], free_RP=np.array([[1.0, 0.0]]), tolerance=1e-13)
    assert solved.theta_RP[0, ALPHA] == start[ALPHA]
    constant = (np.log(line.output_N) + start[ALPHA] * np.log(line.inputs["tokens"])).mean()
    assert solved.theta_RP[0, 0] == pytest.approx(constant / start[ALPHA], rel=1e-8)


@pytest.mark.parametrize("clusters", [None, 20])
def test_delta_covariance_is_the_sandwich_of_statsmodels(line, clusters):
    """HC1 scales by n/(n − p), and so do we with clusters in place of n, where statsmodels has another factor."""
    groups_N = np.arange(len(line)) if clusters is None else np.arange(len(line)) % clusters
    spread = covariance(problem(LINE, line), best(problem(LINE, line)).theta_P, groups_N)
    if clusters is None:
        oracle = regression(line, cov_type="HC1").cov_params()[1, 1]
    else:
        raw = regression(line, cov_type="cluster", cov_kwds={"groups": groups_N, "use_correction": False})
        oracle = raw.cov_params()[1, 1] * clusters / (clusters - 2)
    assert spread.matrix_PP[ALPHA, ALPHA] == pytest.approx(oracle, rel=1e-5)
    assert spread.independent_PP[ALPHA, ALPHA] == pytest.approx(regression(line).cov_params()[1, 1], rel=1e-5)


def test_checkpoints_that_err_together_widen_the_covariance(rng):
    """Copies of every row under its run's name add no information; taken for runs they would."""
    rows = observed(LINE, rng, 30)
    copies = seen(
        {name: np.tile(v, 4) for name, v in rows.inputs.items()}, np.tile(rows.output_N, 4), np.tile(np.arange(30), 4)
    )
    at = best(problem(LINE, rows)).theta_P
    once = covariance(problem(LINE, rows), at, rows.cluster_N).sd_P[ALPHA]
    assert covariance(problem(LINE, copies), at, copies.cluster_N).sd_P[ALPHA] == pytest.approx(once, rel=1e-6)
    assert covariance(problem(LINE, copies), at, np.arange(120)).sd_P[ALPHA] == pytest.approx(once / 2, rel=0.03)


def test_covariance_of_least_absolute_deviations_is_near_its_theory(rng):
    """On normal errors the variance of a median regression is π/2 times that of least squares (to 15 %: a density is
    estimated from 2000 residuals)."""
    rows = observed(LINE, rng, 2000)
    spread = covariance(
        problem(LINE, rows, LEAST_ABSOLUTE), best(problem(LINE, rows, LEAST_ABSOLUTE)).theta_P, rows.cluster_N
    )
    assert spread.sd_P[ALPHA] == pytest.approx(np.sqrt(np.pi / 2) * regression(rows).bse[1], rel=0.15)


def test_a_flat_direction_is_named(rng):
    """Tokens that hardly vary leave B and β of Chinchilla's law interchangeable."""
    rows = observed(CHINCHILLA, rng, 40)
    flat = replace(rows, inputs={**rows.inputs, "tokens": np.full(40, 1e10)})
    assert covariance(problem(CHINCHILLA, flat), best(problem(CHINCHILLA, flat)).theta_P, flat.cluster_N).flat
    assert not covariance(problem(CHINCHILLA, rows), best(problem(CHINCHILLA, rows)).theta_P, rows.cluster_N).flat


def test_bootstrap_spread_is_the_robust_standard_error(line):
    """Resampling pairs estimates HC0; 4000 draws leave 2 % of noise, resampling of 40 runs itself about 10 %."""
    asked = problem(LINE, line)
    drawn = bootstrap(asked, best(asked).theta_P, line.cluster_N, draws=4000, rng=np.random.default_rng(0))
    assert drawn.failed == 0
    oracle = regression(line, cov_type="HC0").bse[1] * stretch(40, 2)
    assert drawn.theta_DP[:, ALPHA].std() == pytest.approx(oracle, rel=0.12)


def test_simulated_spread_is_the_classical_standard_error(line):
    """Refits to simulated normal errors have the spread of ordinary least squares, stretched to Student's tails."""
    asked = problem(LINE, line)
    oracle = regression(line)
    drawn = simulated(
        asked, best(asked).theta_P, line.cluster_N, oracle.mse_resid**0.5, draws=4000, rng=np.random.default_rng(0)
    )
    tails = oracle.conf_int()[1, 1] - oracle.params[1]
    assert drawn.theta_DP[:, ALPHA].std() * norm.ppf(0.975) == pytest.approx(tails, rel=0.05)


def test_wild_bootstrap_of_clusters_is_the_clustered_standard_error(rng):
    rows = observed(LINE, rng, 15, kind="checkpoints")
    asked = problem(LINE, rows)
    at = best(asked).theta_P
    drawn = simulated(asked, at, rows.cluster_N, np.nan, draws=4000, rng=np.random.default_rng(0))
    middle = np.percentile(drawn.theta_DP[:, ALPHA], [15.87, 84.13])
    assert (middle[1] - middle[0]) / 2 == pytest.approx(covariance(asked, at, rows.cluster_N).sd_P[ALPHA], rel=0.25)


def test_too_few_clusters_are_refused(rng):
    rows = observed(CHINCHILLA, rng, 12)
    asked = problem(CHINCHILLA, rows)
    at = best(asked).theta_P
    for refused in (
        lambda: bootstrap(asked, at, np.arange(12) % 5, draws=100, rng=rng),
        lambda: simulated(asked, at, np.arange(12) % 5, 0.01, draws=100, rng=rng),
    ):
        with pytest.raises(Refused, match="5 independent runs or cells for 5 parameters"):
            refused()


def test_the_profile_of_a_line_is_students_interval(line):
    """Under least squares the signed root of the rise is linear in the slope, so the ends are exact up to the
    clusters' design effect, which is taken out here."""
    asked = problem(LINE, line)
    found = best(asked)
    spread = covariance(asked, found.theta_P, line.cluster_N)
    plain = replace(spread, matrix_PP=spread.independent_PP)
    traced = profile(asked, found.theta_P, found.value, plain, clusters=len(line))
    low, high = regression(line).conf_int()[1]
    assert (traced.low_P[ALPHA], traced.high_P[ALPHA]) == pytest.approx((low, high), rel=1e-3)
    assert traced.better_P is None
    robust = profile(asked, found.theta_P, found.value, spread, clusters=len(line))
    widths = [p.high_P[ALPHA] - p.low_P[ALPHA] for p in (robust, plain and traced)]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(spread.design_effect_P()[ALPHA]), rel=2e-3)


def narrow(seed: int):
    """Sizes over a factor of two, where A/N^α changes the loss by less than the noise: the runs say nothing on α."""
    rng = np.random.default_rng(seed)
    tokens = np.exp(rng.uniform(np.log(1e9), np.log(1e12), 40))
    inputs = {"params": np.exp(rng.uniform(np.log(1e12), np.log(2e12), 40)), "tokens": tokens}
    return seen(inputs, truth(CHINCHILLA, inputs) * np.exp(0.01 * rng.standard_normal(40)))


def test_intervals_are_open_where_the_data_say_nothing():
    """In half of these fits E is lost at 0, and must come back for the profile of α to be as flat as it is.

    Chance puts the truth outside the intervals of both in one of 20 fits; two of 6 are allowed.
    """
    inside = 0
    for seed in range(6):
        found = fit_observations(CHINCHILLA, narrow(seed), draws=100, rng=np.random.default_rng(seed))
        alpha = found.estimates["alpha"]
        assert alpha.high - alpha.low > 1
        inside += alpha.contains(typical(CHINCHILLA)["alpha"])
    assert inside >= 4


def test_a_term_lost_at_the_optimum_comes_back_in_refits():
    rows = narrow(0)
    asked = problem(CHINCHILLA, rows)
    lost_P = best(asked).theta_P.copy()
    lost_P[0] = -200.0
    held = lost_P + np.array([0.0, 12.0, 0.0, 0.4, 0.0])
    free = np.array([[1.0, 1.0, 1.0, 0.0, 1.0]])
    stuck = minimise(asked.residuals, LEAST_SQUARES, held[None], free_RP=free)
    found = refit(asked, lost_P, held[None], objective=LEAST_SQUARES, free_RP=free)
    assert stuck.theta_RP[0, 0] < -100 and found.theta_RP[0, 0] > -1
    assert found.value_R[0] < 0.9 * stuck.value_R[0]


def test_a_profile_that_finds_a_lower_point_says_so(runs):
    asked = problem(CHINCHILLA, runs)
    found = best(asked)
    off_P = found.theta_P + np.array([0.0, 0.5, 0.0, 0.02, 0.0])
    spread = covariance(asked, found.theta_P, runs.cluster_N)
    traced = profile(asked, off_P, float(asked.value(off_P[None])[0]), spread, clusters=60)
    assert traced.better_P is not None
    assert best(asked, near=traced.better_P).value == pytest.approx(found.value, rel=1e-8)


def test_derivatives_of_a_law_without_its_own_are_exact():
    asked = Problem(
        law=SLOPE, inputs={"tokens": np.array([1.0, 2.0])}, output_N=np.array([1.0, 1.0]), objective=LEAST_SQUARES
    )
    residual_RN, slope_RNP = asked.residuals(np.array([[0.5]]))
    assert residual_RN[0] == pytest.approx([0.5, 1.0])
    assert slope_RNP[0, :, 0] == pytest.approx([1.0, 2.0], rel=1e-14)


def test_the_usual_threshold_is_1345_standard_deviations_of_the_errors(rng):
    rows = observed(CHINCHILLA, rng, 400, noise=0.01)
    at = point(CHINCHILLA, rows)
    assert at.problem.objective.delta == pytest.approx(1.345 * 0.01, rel=0.1)


@pytest.mark.parametrize("options", [{"delta": 0.0}, {"delta": -1.0}, {"delta": np.nan}, {"space": "sqrt"}])
def test_objectives_that_make_no_sense_are_refused(options):
    with pytest.raises(Refused, match="accepted"):
        Objective(**options)


@pytest.mark.parametrize("delta", [0.3, np.inf])
def test_psi_is_the_slope_of_rho(delta):
    objective, x = Objective(delta=delta), np.linspace(-1, 1, 41)[1::2]
    slope = (objective.rho(x + 1e-6) - objective.rho(x - 1e-6)) / 2e-6
    assert objective.psi(x) == pytest.approx(slope, abs=1e-6)
    assert objective.reweighted(x) * x == pytest.approx(objective.psi(x))
