"""Ratios and powers: an exact algebra."""

import copy
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.scale import ONE, RATIO_NAMES, Power, Ratios

exponents = st.fractions(min_value=-2, max_value=2, max_denominator=2)
powers = st.dictionaries(st.sampled_from(RATIO_NAMES), exponents, max_size=3).map(lambda found: Power(**found))
ratios = st.fixed_dictionaries(
    {name: st.fractions(min_value=Fraction(1, 8), max_value=64, max_denominator=8) for name in RATIO_NAMES}
).map(lambda found: Ratios(**found))


@given(powers, powers, ratios)
def test_product_evaluates_to_the_product(one: Power, other: Power, at: Ratios) -> None:
    assert (one * other)(at) == pytest.approx(one(at) * other(at), rel=1e-12)


@given(powers, powers, powers)
def test_powers_are_a_commutative_group(a: Power, b: Power, c: Power) -> None:
    assert a * b == b * a
    assert (a * b) * c == a * (b * c)
    assert a / a == ONE
    assert hash(a * b) == hash(b * a)


@given(powers)
def test_at_the_base_every_power_is_exactly_one(power: Power) -> None:
    assert power(Ratios()) == 1.0


@given(powers)
def test_survives_pickle_and_deepcopy(power: Power) -> None:
    assert pickle.loads(pickle.dumps(power)) == power
    assert copy.deepcopy(power) == power


def test_prints_as_a_paper_would() -> None:
    assert str(ONE) == "1"
    assert str(Power(fan_in=-1)) == "1/m_in"
    assert str(Power(fan_out=1, fan_in=-1, depth=Fraction(1, 2))) == "m_out · √m_L/m_in"
    assert str(Power(fan_in=Fraction(-3, 4))) == "1/m_in^3/4"


def test_refuses_what_is_not_exact() -> None:
    with pytest.raises(TypeError, match="int or a Fraction"):
        Power(fan_in=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no ratio 'width'"):
        Power(width=1)
    with pytest.raises(ValueError, match="must be positive"):
        Ratios(depth=Fraction(0))
    with pytest.raises(AttributeError):
        ONE.exponents = ()  # type: ignore[misc]
