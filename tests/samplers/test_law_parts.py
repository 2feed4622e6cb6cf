"""LawSampler in pieces: parameters in the law's units, what is assumed, the law and what it misses."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from scalelab.errors import Refused
from scalelab.laws.law import Array
from scalelab.samplers.law import misses
from scalelab.samplers.law.axis import LINEAR_WIDTH, Axis
from scalelab.samplers.law.coordinates import Coordinates
from scalelab.samplers.law.mean import Law, Points, joined
from scalelab.samplers.law.posterior import law_at
from scalelab.samplers.law.prior import exponent, theta_prior
from scalelab.samplers.law.roles import role
from scalelab.samplers.law.scales import MANY, considered
from scalelab.samplers.law.target import FREE, spots_of

LAW = Law(sizes=("N", "D"), hypers=("batch", "lr", "weight_decay"), depth=0.25)
SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "C": FloatDistribution(1e17, 1e21, log=True),
    "N": FloatDistribution(1e7, 1e9, log=True),
    "optimizer": CategoricalDistribution(["adamw", "muon"]),
    "clip": FloatDistribution(1.0, 1.0),
}
SIZES = {"params": {"N": 1.0}, "tokens": {"C": 1.0, "N": -1.0}}


def points_of(count: int, law: Law = LAW, *, seed: int = 0, choices: int = 0) -> Points:
    rng = np.random.default_rng(seed)
    size_NT = rng.normal(size=(count, len(law.sizes)))
    return Points(
        size_NT=size_NT, cost_N=size_NT.sum(axis=1), hyper_NH=rng.normal(size=(count, len(law.hypers))),
        other_NO=np.eye(choices)[rng.integers(choices, size=count)] if choices else np.zeros((count, 0)),
    )  # fmt: skip


def prior_of(
    law: Law, parametrization: str | None = None, given: Mapping[str, tuple[float, float]] = {}
) -> tuple[Array, Array]:
    return theta_prior(law, np.zeros(len(law.hypers)), level=1.0, parametrization=parametrization, given=given)


def coordinates_of(space: dict[str, BaseDistribution] = SPACE, **given: Any) -> Coordinates:
    usual = {"scales": ("C", "N"), "cost": lambda params: params["C"], "sizes": SIZES}
    return Coordinates.of(space, **{**usual, **given})


# axes


@pytest.mark.parametrize(
    ("distribution", "value", "inward", "kind"),
    [
        (FloatDistribution(1e-4, 1.0, log=True), 1e-2, math.log(1e-2), float),
        (FloatDistribution(-1.0, 3.0), 0.0, LINEAR_WIDTH / 4, float),
        (FloatDistribution(0.0, 1.0, step=0.25), 0.75, 0.75 * LINEAR_WIDTH, float),
        (IntDistribution(2, 10), 4, LINEAR_WIDTH / 4, int),
        (IntDistribution(2, 10, step=4), 6, LINEAR_WIDTH / 2, int),
        (IntDistribution(1, 64, log=True), 8, math.log(8), int),
        (CategoricalDistribution([128, 32, 64]), 64, math.log(64), int),
        (CategoricalDistribution([0.0, 0.1, 0.5]), 0.1, 0.2 * LINEAR_WIDTH, float),
    ],
)
def test_an_axis_goes_in_and_comes_out(distribution: BaseDistribution, value: Any, inward: float, kind: type) -> None:
    axis = Axis.of("x", distribution)
    assert axis is not None and axis.inward(value) == pytest.approx(inward)
    for unit in [inward, inward + 1e-3, *np.linspace(axis.range[0] - 1, axis.range[1] + 1, 9)]:
        assert type(axis.outward(unit)) is kind
        assert distribution._contains(distribution.to_internal_repr(axis.outward(unit)))
    assert axis.outward(inward) == pytest.approx(value)
    assert [axis.outward(end) for end in axis.range] == pytest.approx([axis.low, axis.high])


@pytest.mark.parametrize("choices", [["a", "b", "c"], [1, 2], [True, False, None], [1, 2, "x"], [1.0, math.inf, 2.0]])
def test_choices_that_are_not_among_three_numbers_have_no_axis(choices: list[Any]) -> None:
    assert Axis.of("x", CategoricalDistribution(choices)) is None


def test_a_scale_is_in_logs_whatever_its_distribution_says() -> None:
    for distribution in (FloatDistribution(1.0, 100.0), IntDistribution(1, 100), CategoricalDistribution([1, 100])):
        assert Axis.of_scale("N", distribution).range == pytest.approx((0.0, math.log(100)))
    assert Axis.of_scale("N", CategoricalDistribution([1, 100])).outward(3.0) == 100


@pytest.mark.parametrize(
    ("distribution", "says"),
    [
        (FloatDistribution(0.0, 1.0), "N sets the scale and begins at 0: accepted are positive numbers"),
        (IntDistribution(-3, 1), "begins at -3"),
        (CategoricalDistribution(["small", "large"]), "N sets the scale: accepted are numbers"),
    ],
)
def test_what_is_no_scale(distribution: BaseDistribution, says: str) -> None:
    with pytest.raises(Refused, match=says):
        Axis.of_scale("N", distribution)


# coordinates


def test_sizes_are_monomials_of_the_scales_and_settings_stand_beside_them() -> None:
    coordinates = coordinates_of()
    low, high = {"C": 1e18, "N": 1e8}, {"C": 1e20, "N": 4e8}
    rest = {"lr": 1e-3, "optimizer": "muon", "clip": 1.0}
    at = coordinates.points([{**low, **rest}, {**high, **rest}])
    np.testing.assert_allclose(np.diff(at.size_NT, axis=0), [[math.log(4), math.log(25)]])
    np.testing.assert_allclose(at.cost_N, np.log([1e18, 1e20]) - math.log(1e19))
    assert [axis.name for axis in coordinates.hypers] == ["lr"] and list(coordinates.others) == ["optimizer"]
    np.testing.assert_allclose(at.hyper_NH, math.log(1e-3))
    np.testing.assert_array_equal(at.other_NO, [[0, 1], [0, 1]])
    assert coordinates.params(high, at.hyper_NH[1], {"optimizer": "muon"}) == pytest.approx(
        {"C": 1e20, "N": 4e8, "lr": 1e-3, "optimizer": "muon"}
    )
    spots = coordinates.spots([low, high])
    np.testing.assert_array_equal(spots.points.size_NT, at.size_NT)
    np.testing.assert_array_equal(spots[[1]].cost_M, [1e20])


def test_the_middle_of_the_scales_is_the_reference() -> None:
    middle = coordinates_of().points([{"C": 1e19, "N": 1e8, "lr": 1e-3, "optimizer": "adamw"}])
    np.testing.assert_allclose([*middle.size_NT[0], *middle.cost_N], 0.0, atol=1e-9)


def test_choices_are_all_considered_where_they_are_few_and_one_at_a_time_where_not() -> None:
    few: dict[str, BaseDistribution] = {f"c{i}": CategoricalDistribution("ab") for i in range(5)}
    many: dict[str, BaseDistribution] = {f"c{i}": CategoricalDistribution("ab") for i in range(6)}
    assert len(coordinates_of(few, scales=(), sizes={}, cost=lambda _: 1.0).choices) == 32
    considered_ = coordinates_of(many, scales=(), sizes={}, cost=lambda _: 1.0).choices
    assert len(considered_) == 7 and {len(each) for each in considered_} == {6}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"scales": ("C", "n")}, "unknown scale 'n': accepted are C, N, clip, lr, optimizer"),
        ({"sizes": {"params": {"M": 1.0}}}, "unknown scale in size params 'M': accepted are C, N"),
        ({"sizes": {"params": {"N": 1.0}}}, "sizes params do not tell the scales C, N apart"),
        ({"sizes": {"a": {"N": 1.0, "C": 1.0}, "b": {"N": 2.0, "C": 2.0}}}, "give as many, independent"),
        ({"cost": lambda params: 0.0}, r"the cost of C=.*, N=.* is 0.0: accepted is a positive number of FLOPs"),
        ({"cost": lambda params: math.nan}, "is nan"),
        ({"cost": lambda params: math.inf}, "is inf"),
        (
            {"cost": lambda params: params["batch"]},
            "the cost reads 'batch' and is asked for scales alone, C=.*, N=.*: name 'batch' in scales",
        ),
    ],
)
def test_coordinates_that_are_none(given: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        coordinates_of(**given)
    assert "\n" not in str(refused.value)


def test_scales_considered_reach_the_corners_and_are_each_of_the_space_once() -> None:
    space: dict[str, BaseDistribution] = {"width": CategoricalDistribution([32, 64, 128]), "D": IntDistribution(1, 4)}
    given = {"scales": ("width", "D"), "sizes": {"width": {"width": 1}, "D": {"D": 1}}, "cost": lambda p: p["D"]}
    scales = considered(coordinates_of(space, **given)).scales
    assert sorted(map(tuple, (each.values() for each in scales))) == [
        (w, d) for w in (32, 64, 128) for d in (1, 2, 3, 4)
    ]
    spots = considered(coordinates_of())
    assert len(spots.scales) == MANY + 4 - 1  # Sobol's first point is a corner
    assert spots.cost_M.min() == pytest.approx(1e17) and spots.cost_M.max() == pytest.approx(1e21)


@pytest.mark.parametrize("compute", [1e22, 10**22, np.int64(10**18), np.float32(1e22)])
def test_a_scale_that_the_target_leaves_out_is_free(compute: float) -> None:
    spots = spots_of(coordinates_of(), {"C": compute})
    assert len(spots.scales) == FREE and {scale["C"] for scale in spots.scales} == {compute}
    assert [spots.scales[0]["N"], spots.scales[-1]["N"]] == pytest.approx([1e7, 1e9])


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ({"D": 1e9}, "unknown scale in the target 'D': accepted are C, N"),
        ({"C": -1.0}, "target C=-1.0: accepted is a positive number"),
        ({"C": "1e22"}, "target C='1e22': accepted is a positive number"),
        ({}, "the target names no scale: give one or more of C, N"),
    ],
)
def test_targets_that_are_none(target: Any, says: str) -> None:
    with pytest.raises(Refused, match=says):
        spots_of(coordinates_of(), target)


# what is assumed


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("lr", "lr"), ("optimizer.lr", "lr"), ("hparams.peak_lr", "lr"), ("weight-decay", "weight_decay"),
        ("batch_size", "batch_tokens"), ("N", "params"), ("D", "tokens"), ("shape.width", "width"),
        ("d_model", "width"),
        ("momentum", "momentum"), ("λ ~ 1", "λ ~ 1"), ("", ""), ("optimizer.", "optimizer."),
    ],
)  # fmt: skip
def test_a_name_says_its_role_or_nothing(name: str, known: str) -> None:
    assert role(name) == known


def test_priors_are_of_every_parameter_and_can_be_given() -> None:
    usual, given = prior_of(LAW), prior_of(LAW, given={"lr ~ D": (-0.7, 0.01), "batch skew": (1.0, 2.0)})
    assert len(usual[0]) == len(LAW.names) == len(set(LAW.names)) and (usual[1] > 0).all()
    moved = {LAW.names[k]: (given[0][k], given[1][k]) for k in np.flatnonzero(usual[0] != given[0])}
    assert moved == {"lr ~ D": (-0.7, 0.01), "batch skew": (1.0, 2.0)}
    assert [LAW.names[LAW.first(place)] for place in range(3)] == list(LAW.hypers)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lr ~ d": (0.0, 1.0)}, "unknown prior 'lr ~ d': accepted are .*did you mean 'lr ~ "),
        ({"lr": (0.0, 0.0)}, "prior lr: accepted are a mean and a positive standard deviation, not 0, 0"),
        ({"lr": (0.0, -1.0)}, "not 0, -1"),
        ({"lr": (math.nan, 1.0)}, "not nan, 1"),
        ({"lr": (0.0, math.inf)}, "not 0, inf"),
    ],
)
def test_priors_that_are_none(given: dict[str, tuple[float, float]], says: str) -> None:
    with pytest.raises(Refused, match=says):
        prior_of(LAW, given=given)


def test_a_parametrization_is_believed_of_the_sizes_that_it_transfers_over() -> None:
    assert (exponent("lr", "width", "mup").mean, exponent("lr", "width", "mup").sd) == (0.0, 0.2)
    assert exponent("lr", "width", "sp") == exponent("lr", "width", None)
    assert exponent("lr", "width", "sp").mean == -0.5
    assert exponent("lr", "tokens", "mup") == exponent("lr", "tokens", None)
    assert exponent("weight_decay", "width", "mup") == exponent("weight_decay", "width", None)
    law = Law(sizes=("model.width", "tokens"), hypers=("optimizer.lr",), depth=0.25)
    place = law.names.index("optimizer.lr ~ model.width")
    assert [prior_of(law, name)[k][place] for name in ("mup", "sp") for k in (0, 1)] == [
        0.0,
        0.2,
        -0.5,
        exponent("lr", "width", None).sd,
    ]


def test_exponents_of_the_literature_are_chained() -> None:
    lr, batch, decay = (exponent(name, "tokens", None) for name in ("lr", "batch_tokens", "weight_decay"))
    assert lr.mean == pytest.approx(-0.1 + 0.4 * 0.45) and lr.sd == pytest.approx(math.hypot(0.3, 0.4 * 0.2))
    # λ = B/(lr·τ·D)
    assert decay.mean == pytest.approx(batch.mean - lr.mean + 0.5 - 1.0)
    assert decay.sd == pytest.approx(math.sqrt(0.3**2 + 0.3**2 + 0.2**2 + 0.5**2))  # the chain may not hold
    by_params = [exponent(name, "params", None).mean for name in ("weight_decay", "batch_tokens", "lr")]
    assert by_params[0] == pytest.approx(by_params[1] - by_params[2] - 0.5)
    assert exponent("momentum", "tokens", "mup").mean == 0.0


# the law


def random_theta(law: Law, count: int, seed: int = 0) -> Array:
    mean_P, sd_P = prior_of(law)
    return mean_P + 0.5 * sd_P * np.random.default_rng(seed).standard_normal((count, len(mean_P)))


@pytest.mark.parametrize(
    "law", [LAW, Law(sizes=(), hypers=("lr",), depth=0.25), Law(sizes=("N",), hypers=(), depth=0.25)]
)
def test_derivatives_are_those_of_differences(law: Law) -> None:
    at, theta_RP = points_of(12, law), random_theta(law, 3)
    loss_RN, slope_RNP, height_RN = law.slopes(theta_RP, at)
    np.testing.assert_array_equal(loss_RN, law(theta_RP, at))
    np.testing.assert_allclose(height_RN, loss_RN - law.floor(theta_RP, at), atol=1e-12)
    for k, name in enumerate(law.names):
        step_P = 1e-5 * np.eye(len(law.names))[k]
        difference_RN = (law(theta_RP + step_P, at) - law(theta_RP - step_P, at)) / 2e-5
        np.testing.assert_allclose(slope_RNP[..., k], difference_RN, rtol=1e-5, atol=1e-8, err_msg=name)


def test_the_valley_is_lowest_at_the_optimum_and_bounded_far_from_it() -> None:
    at, theta_RP = points_of(9), random_theta(LAW, 1)
    optimum_NH = LAW.optimum(theta_RP, at)[0]

    def height(off: float) -> Array:
        moved = Points(size_NT=at.size_NT, cost_N=at.cost_N, hyper_NH=optimum_NH + off, other_NO=at.other_NO)
        return np.asarray(LAW.slopes(theta_RP, moved)[2][0])

    np.testing.assert_allclose(height(0.0), 0.0, atol=1e-15)
    assert (height(0.3) > 0).all() and (height(-0.3) > 0).all()
    assert (height(100.0) < 12.0).all()  # W ln(1 + V/W), V up to e^30


def test_optima_move_as_their_exponents_say() -> None:
    theta_RP = random_theta(LAW, 1)
    theta_RP[:, LAW.names.index("lr bend")] = 0.0
    at = points_of(2)
    moved_H = np.diff(LAW.optimum(theta_RP, at)[0], axis=0)[0]
    powers_T = [theta_RP[0, LAW.names.index(f"lr ~ {size}")] for size in LAW.sizes]
    assert moved_H[1] == pytest.approx(float(np.diff(at.size_NT, axis=0)[0] @ powers_T))


def test_points_are_cut_and_joined() -> None:
    at = points_of(7, choices=2)
    both = joined([at[:3], at[np.array([3, 4, 5, 6])]])
    assert len(at[:3]) == 3 and len(both) == 7
    for name in ("size_NT", "cost_N", "hyper_NH", "other_NO"):
        np.testing.assert_array_equal(getattr(both, name), getattr(at, name))


# what it misses


@pytest.mark.parametrize("choices", [0, 3])
def test_what_is_missed_has_a_covariance(choices: int) -> None:
    at = law_at(LAW, random_theta(LAW, 1)[0], points_of(25, choices=choices))
    for part_NN in misses.parts(at, at):
        np.testing.assert_allclose(part_NN, part_NN.T, atol=1e-12)
        assert np.linalg.eigvalsh(part_NN).min() > -1e-9 * max(float(np.abs(part_NN).max()), 1.0)
    whole_NN = misses.covariance(misses.PRIOR, misses.parts(at, at))
    np.testing.assert_allclose(misses.covariance_diagonal(misses.PRIOR, at), np.diag(whole_NN))
    np.testing.assert_allclose(misses.covariance(misses.PRIOR, misses.parts(at[:4], at)), whole_NN[:4])
    joined_NN = misses.covariance(misses.PRIOR, misses.parts(misses.joined_at([at[:4], at[4:]]), at))
    np.testing.assert_allclose(joined_NN, whole_NN)


def test_matern_is_one_at_nothing_and_falls() -> None:
    value = misses.matern(np.array([-1e-12, 0.0, 0.1, 1.0, 10.0, 100.0]))
    assert value[1] == 1.0 and (np.diff(value[1:]) < 0).all() and value[-1] < 1e-6
    assert value[3] == pytest.approx((1 + math.sqrt(5) + 5 / 3) * math.exp(-math.sqrt(5)))


@pytest.mark.parametrize("none", [False, True])
def test_sizes_are_fitted_along_the_gradient(none: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    at = law_at(LAW, random_theta(LAW, 1)[0], points_of(30, choices=2))
    asked: list[tuple[Any, Array]] = []
    found = scipy.optimize.minimize

    def noted(surprise: Any, start: Array, **given: Any) -> Any:
        asked.append((surprise, start))
        return found(surprise, start, **given)

    monkeypatch.setattr(misses, "minimize", noted)
    _, sd_P = prior_of(LAW)
    residual_N = 0.01 * np.random.default_rng(0).standard_normal(30)
    nothing_N = np.zeros(30)
    log_size_K, likely = misses.sizes(
        at, residual_N, sd_P, nothing_N + 1.0, nothing_N, start_K=misses.PRIOR + 0.1, none=none
    )
    surprise, start_K = asked[0]
    for k, step_K in enumerate(1e-5 * np.eye(len(start_K))):
        difference = (surprise(start_K + step_K)[0] - surprise(start_K - step_K)[0]) / 2e-5
        assert surprise(start_K)[1][k] == pytest.approx(difference, rel=1e-4, abs=1e-6)
    assert likely >= -surprise(start_K)[0]
    assert log_size_K.shape == (6,)
