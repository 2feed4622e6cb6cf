"""Single values of a configuration: numbers, given as numbers or as text, exact where they are whole."""

from fractions import Fraction
from typing import Any

from scalelab.errors import Refused


def integer(name: str, value: Any) -> int:
    """A whole number, given as one or as text; `Refused` names the key."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(f"{name}={value!r}: accepted is a whole number")
    exact = whole(str(value))
    if exact is None:
        raise Refused(f"{name}={value!r}: accepted is a whole number, for example 51200 or 5.12e4")
    return exact


def whole(text: str) -> int | None:
    """The whole number that a text states exactly, None where it states none.

    >>> whole("5.12e4"), whole("1_000"), whole("1.5"), whole("1/0")
    (51200, 1000, None, None)
    """
    try:
        exact = Fraction(text.replace("_", ""))
    except (ValueError, ZeroDivisionError):
        return None
    return int(exact) if exact.denominator == 1 else None


def real(name: str, value: Any) -> float:
    """A number, given as one or as text; `Refused` names the key."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(f"{name}={value!r}: accepted is a number")
    try:
        return float(value)
    except ValueError:
        raise Refused(f"{name}={value!r}: accepted is a number, for example 0.01 or 1e-2") from None


def fraction(name: str, value: Any) -> Fraction:
    """A positive exact ratio; `Refused` names the key."""
    try:
        ratio = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise Refused(f"{name}={value!r}: accepted is a number or a fraction, for example 4 or 8/3") from None
    if ratio <= 0:
        raise Refused(f"{name}={value!r}: accepted is a positive number")
    return ratio
