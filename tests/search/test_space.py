"""Hydra's grammar as a search space, and what it refuses."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from scalelab.errors import Refused
from scalelab.search.space import Parameter, Space, space_of


def space(*lines: str, choices: bool = False) -> Space:
    return space_of(OverridesParser.create().parse_overrides(list(lines)), choices=choices)


def only(line: str) -> Parameter:
    (parameter,) = space(line).parameters
    return parameter


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lr=interval(0,1)", FloatDistribution(0.0, 1.0)),
        ("lr=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("depth=int(interval(2,8))", IntDistribution(2, 8)),
        ("width=tag(log,int(interval(32,256)))", IntDistribution(32, 256, log=True)),
        ("width=range(32,160,32)", IntDistribution(32, 128, step=32)),
        ("width=range(128,0,-32)", IntDistribution(32, 128, step=32)),
        ("dropout=range(0.0,0.5,0.1)", FloatDistribution(0.0, 0.4, step=0.1)),
        ("width=tag(log,range(32,160,32))", IntDistribution(32, 128, log=True)),
        ("width=tag(log,choice(128,32,64))", IntDistribution(32, 128, log=True)),
        ("width=32,64", CategoricalDistribution((32, 64))),
        ("optimizer=choice(adamw,sgd)", CategoricalDistribution(("adamw", "sgd"))),
        ("optimizer.clip_norm=null,0.5", CategoricalDistribution(("null", 0.5))),
        ("+model.qk_norm=true,false", CategoricalDistribution((True, False))),
    ],
)
def test_the_grammar_of_hydra(line: str, expected: BaseDistribution) -> None:
    parameter = only(line)
    assert parameter.distribution == expected
    assert parameter.key == line.split("=")[0]


def test_a_scale_of_numbers_takes_the_nearest_in_its_own_units() -> None:
    log, linear = only("width=tag(log,choice(32,64,128))"), only("width=range(32,160,32)")
    assert [log.nearest(width) for width in (32, 44, 46, 90, 91, 128)] == [32, 32, 64, 64, 128, 128]
    assert [linear.nearest(width) for width in (47, 49, 128)] == [32, 64, 128]
    assert only("rate=range(0.0,0.5,0.1)").nearest(0.1 + 0.2) == 0.3
    assert only("lr=interval(0,1)").nearest(0.123) == 0.123


def test_a_sampler_that_takes_choices_is_given_the_numbers_themselves() -> None:
    (width,) = space("width=tag(log,choice(128,32,64))", choices=True).parameters
    assert width.distribution == CategoricalDistribution((32, 64, 128))
    assert width.ends == (32, 128) and width.nearest(90) == 64 and str(width) == "width log 32, 64, 128"
    (width,) = space("width=range(32,160,32)", choices=True).parameters
    assert width.distribution == IntDistribution(32, 128, step=32)


def test_what_is_in_a_space_is_written_as_the_space_does() -> None:
    assert only("depth=int(interval(2,8))").accepted(4.0) == 4
    assert only("depth=int(interval(2,8))").accepted(4.5) is None
    assert only("lr=interval(0,1)").accepted(1) == 1.0
    assert only("lr=interval(0,1)").accepted(1.5) is None
    assert only("lr=interval(0,1)").accepted("null") is None
    assert only("width=32,64").accepted(64.0) == 64
    assert only("width=range(32,160,32)").accepted(48) is None


def test_fixed_values_are_in_every_run_and_the_last_of_two_wins() -> None:
    found = space("lr=interval(0,1)", "depth=4", "width=32,64", "lr=0.1,0.2", "width=64", "seed=3")
    assert list(found.distributions) == ["lr"]
    assert found.overrides({"lr": 0.1}, seed=None) == ["depth=4", "width=64", "seed=3", "lr=0.1"]
    assert found.overrides({"lr": 0.1}, seed=7)[-1] == "seed=7"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lr=interval(1,1)", "accepted are two finite bounds, the lower first"),
        ("lr=interval(2,1)", "accepted are two finite bounds, the lower first"),
        ("lr=interval(0,inf)", "accepted are two finite bounds"),
        ("lr=interval(nan,1)", "accepted are two finite bounds"),
        ("lr=tag(log,interval(0,1))", "accepted is a lower bound above 0"),
        ("lr=tag(log,interval(-1,1))", "accepted is a lower bound above 0"),
        ("lr=tag(log,choice(0,1))", "accepted are numbers above 0"),
        ("optimizer=tag(log,choice(adamw,sgd))", "accepted are numbers above 0"),
        ("lr=tag(loog,interval(1,2))", "unknown tag 'loog', accepted is log"),
        ("lr=1,1", "accepted are different values"),
        ("lr=range(1,1)", "accepted are different values, at least one"),
        ("study=a,b", "a search is kept in one folder"),
        ("lr=1", "nothing to search: give a key an interval"),
    ],
)
def test_what_is_no_space_is_refused_in_one_line(line: str, said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)) as refused:
        space(line)
    assert "\n" not in str(refused.value)
