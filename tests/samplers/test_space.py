"""The search space: transformed units and back, and what is refused."""

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from scalelab.errors import Refused
from scalelab.samplers import SAMPLERS, sampler_class
from scalelab.samplers.space import Space

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "momentum": FloatDistribution(0.5, 0.999),
    "dropout": FloatDistribution(-10.2, 10.2, step=0.1),
    "layers": IntDistribution(-10, 10, step=2),
    "width": IntDistribution(1, 4096, log=True),
    "optimizer": CategoricalDistribution(["adamw", None, 1.5, True]),
    "fixed": FloatDistribution(3.0, 3.0),
    "only": CategoricalDistribution(["one"]),
}
SPACE = Space.of(DISTRIBUTIONS, kinds={"momentum": "logit"}, centres={"optimizer": True, "lr": 1e-3})


@given(st.lists(st.floats(-1e6, 1e6), min_size=11, max_size=11))
def test_every_point_decodes_to_what_the_distributions_hold(point: list[float]) -> None:
    params = SPACE.decode(np.array(point))
    for name, distribution in DISTRIBUTIONS.items():
        assert distribution._contains(distribution.to_internal_repr(params[name])), name
        assert type(params[name]) in {int, float, str, bool, type(None)}


@given(st.lists(st.floats(-20, 20), min_size=11, max_size=11))
def test_rounded_is_what_decoding_and_encoding_make_of_a_point(point: list[float]) -> None:
    x_1D = np.array([point])
    rounded_1D = SPACE.rounded(x_1D)
    np.testing.assert_allclose(rounded_1D, SPACE.encode([SPACE.decode(x_1D[0])]), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(SPACE.rounded(rounded_1D).round(12), rounded_1D.round(12))


def test_units_centres_and_scales() -> None:
    assert SPACE.decode(SPACE.centre_D) == {
        "lr": pytest.approx(1e-3), "momentum": pytest.approx(0.9693, abs=1e-4), "dropout": pytest.approx(0.0),
        "layers": 0, "width": 64, "optimizer": True, "fixed": 3.0, "only": "one",
    }  # fmt: skip
    scales = {d.name: d.scale for d in SPACE.dimensions}
    assert scales["lr"] == pytest.approx(math.log(2)) and scales["layers"] == pytest.approx(20 / 6)
    low_D, high_D = SPACE.bounds
    assert low_D[0] == pytest.approx(math.log(1e-5)) and high_D[1] == pytest.approx(math.log(999))
    assert len(SPACE.slices) == 8 and SPACE.slices[5] == slice(5, 9)


def test_wide_and_infinite_bounds_need_a_centre_and_a_scale() -> None:
    wide = {"x": FloatDistribution(-math.inf, math.inf)}
    space = Space.of(wide, centres={"x": 3.0}, scales={"x": 0.5})
    assert space.decode(np.array([1e300])) == {"x": 1e300}
    with pytest.raises(Refused, match="give its centre"):
        Space.of(wide)
    with pytest.raises(Refused, match="give its scale"):
        Space.of(wide, centres={"x": 3.0})


@pytest.mark.parametrize(
    ("distribution", "given_", "says"),
    [
        (FloatDistribution(1.0, 2.0), {"centres": {"y": 1.0}}, "unknown parameter in centres 'y'"),
        (FloatDistribution(1.0, 2.0), {"kinds": {"x": "logs"}}, "did you mean 'log'"),
        (
            FloatDistribution(1.0, 2.0),
            {"centres": {"x": 3.0}},
            "centre of 'x' is 3.0: accepted is a number from 1.0 to",
        ),
        (FloatDistribution(1.0, 2.0), {"centres": {"x": math.nan}}, "centre of 'x' is nan"),
        (FloatDistribution(1.0, 2.0), {"centres": {"x": "1"}}, "centre of 'x' is '1'"),
        (FloatDistribution(1.0, 2.0), {"scales": {"x": 0.0}}, "scale of 'x' is 0.0"),
        (FloatDistribution(0.0, 2.0), {"kinds": {"x": "log"}}, "log from 0.0"),
        (FloatDistribution(0.0, 1.0), {"kinds": {"x": "logit"}}, "strictly between 0 and 1"),
        (FloatDistribution(math.nan, 1.0), {}, "bounds of 'x' are nan and 1.0"),
        (CategoricalDistribution("ab"), {"scales": {"x": 1.0}}, "categorical"),
        (CategoricalDistribution("ab"), {"kinds": {"x": "log"}}, "categorical"),
        (CategoricalDistribution("ab"), {"centres": {"x": "c"}}, "unknown centre of 'x' 'c'"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line(
    distribution: BaseDistribution, given_: dict[str, Any], says: str
) -> None:
    with pytest.raises(Refused) as refused:
        Space.of({"x": distribution}, **given_)
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_three_numbers_to_choose_from_are_a_dimension_in_their_order() -> None:
    of = {"width": CategoricalDistribution((128, 32, 64)), "rate": CategoricalDistribution((0.0, 0.1, 0.2))}
    space = Space.of(of)
    width, rate = space.dimensions
    assert (width.kind, width.values, width.centre, width.start) == ("log", (32, 64, 128), 64, 64)
    assert (rate.kind, rate.centre) == ("linear", 0.1)
    assert width.scale == pytest.approx(math.log(2)) and rate.scale == pytest.approx(0.1)
    x_MD = np.array([[math.log(90), 0.04], [math.log(91), 0.06], [99.0, -9.0]])
    found = [space.decode(x_D) for x_D in x_MD]
    assert found == [{"width": 64, "rate": 0.0}, {"width": 128, "rate": 0.1}, {"width": 128, "rate": 0.0}]
    assert all(type(params["width"]) is int for params in found)
    np.testing.assert_allclose(space.rounded(x_MD), space.encode(found))
    assert Space.of(of, kinds={"width": "categorical"}).dimensions[0].width == 3
    assert Space.of({"n": CategoricalDistribution((1, 2))}).dimensions[0].is_categorical
    with pytest.raises(Refused, match="unknown centre of 'width' '48': accepted are 128, 32, 64"):
        Space.of(of, centres={"width": 48})


def test_a_thousand_points_encode_in_milliseconds() -> None:
    rng = np.random.default_rng(0)
    params = [SPACE.decode(x_D) for x_D in rng.normal(size=(1000, 11))]
    began = time.process_time()
    assert SPACE.encode(params).shape == (1000, 11)
    assert time.process_time() - began < 0.1


def test_samplers_are_found_by_name() -> None:
    assert sampler_class("carbs").__name__ == SAMPLERS["carbs"].partition(":")[2]
    with pytest.raises(Refused, match="unknown sampler 'carb': accepted are carbs, law; did you mean 'carbs'"):
        sampler_class("carb")
