"""The single values of plain data, by where they stand, and the same data with one of them changed."""

from collections.abc import Iterator
from typing import Any

Place = tuple[str | int, ...]


def leaves(plain: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Each value that holds no others, with its keys and indices."""
    if isinstance(plain, dict | list):
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
            yield from leaves(value, (*place, key))
    else:
        yield place, plain


def changed(plain: Any, place: Place, value: Any) -> Any:
    """The data with another value there; what was given stays."""
    if not place:
        return value
    first, rest = place[0], place[1:]
    if isinstance(plain, dict):
        return {**plain, first: changed(plain[first], rest, value)}
    assert isinstance(first, int)
    return [*plain[:first], changed(plain[first], rest, value), *plain[first + 1 :]]
