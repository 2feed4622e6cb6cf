"""Plain data as dataclasses: each kind of annotation, right and wrong."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from scalelab.errors import Refused
from scalelab.typed import Having, Number, OneOf, built


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    size: int = 1


@pytest.mark.parametrize(
    ("kind", "plain", "found"),
    [
        (float, 1, 1),
        (float, 0.5, 0.5),
        (int | None, None, None),
        (float | str, "a", "a"),
        (bool, True, True),
        (Literal["a", "b"], "b", "b"),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[str, Any], ["a", {"b": [1]}], ("a", {"b": [1]})),
        (Mapping[str, float], {"a": 1.5}, {"a": 1.5}),
        (Annotated[float, Number(infinite=True)], math.inf, math.inf),
        (Annotated[int, Number(low=0)], 0, 0),
        (Annotated[str, OneOf(("a", "b"))], "a", "a"),
        (tuple[Part, ...], [{"name": "a"}, {"name": "b", "size": 2}], (Part(name="a"), Part(name="b", size=2))),
    ],
)
def test_right(kind: Any, plain: Any, found: Any) -> None:
    got = built(kind, plain)
    assert got == found and type(got) is type(found)


@pytest.mark.parametrize(
    ("kind", "plain", "said"),
    [
        (float, math.nan, "at is nan: accepted is a number"),
        (float, True, "at is True: accepted is a number"),
        (float, 10**400, "accepted is a number"),
        (int, 1.0, "at is 1.0: accepted is a whole number"),
        (Annotated[float, Number(low=0, above=True)], 0, "at is 0: accepted is a number > 0"),
        (Annotated[float, Number(low=0, nan=True)], math.inf, "at is inf: accepted is a number ≥ 0 or NaN"),
        (str | None, 1, "at is 1: accepted is text or null"),
        (Literal["a", "b"], [], r"at is \[\]: accepted is one of a, b"),
        (Annotated[str, OneOf(("a", "b"))], "a\nb", r"at is 'a\\nb': accepted is one of a, b"),
        (tuple[int, ...], [1, "a"], r"at\[1\] is 'a': accepted is a whole number"),
        (tuple[str, Any], ["a"], r"at is \['a'\]: accepted is a list of 2"),
        (tuple[str, ...], "ab", "at is 'ab': accepted is a list"),
        (Mapping[str, int], {1: 2}, "accepted is a mapping with texts as keys"),
        (Annotated[Mapping[str, int], Having(("a", "b"))], {"a": 1}, "at lacks b"),
        (Any, {"a": {1}}, r"at.a is \{1\}: accepted is a number, text"),
        (Part, {"nam": "a"}, r"at has \['nam', 'name'\] missing or unknown"),
        (Part, {"name": "a", "size": "2"}, "at.size is '2'"),
    ],
)
def test_wrong(kind: Any, plain: Any, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        built(kind, plain, "at")
    assert "\n" not in str(refused.value)


def test_an_annotation_that_is_no_plain_data_is_a_bug() -> None:
    with pytest.raises(TypeError):
        built(complex, 1, "at")
