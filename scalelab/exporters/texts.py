"""What may stand in a generated file: text that stays where it is put, numbers that are JSON, whole numbers given."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from scalelab.answering import strict
from scalelab.errors import Refused
from scalelab.values import whole


def one_line(text: str) -> str:
    """A text that ends neither a comment nor a string in which it stands, in Python or in a shell.

    >>> print(one_line('law" ↗ \\\\N{BULLET}' + chr(10) + "touch it" + chr(27)))
    law' ↗ /N{BULLET} touch it?
    """
    printed = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    return printed.replace('"', "'").replace("\\", "/")


def harmless(value: Any) -> Any:
    """The same value with every text in it in `one_line`: a recipe is a file that comes from others."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list | tuple):
        return type(value)(harmless(each) for each in value)
    if isinstance(value, Mapping):
        return {harmless(key): harmless(each) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: harmless(getattr(value, field.name)) for field in fields(value)})
    return value


def json_text(plain: Mapping[str, Any]) -> str:
    """A JSON file; a number that nobody knows (NaN) is null there."""
    return json.dumps(strict(plain), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def interval(low: float | None, high: float | None) -> str:
    """The interval of a value in words.

    >>> interval(0.5, 2.0), interval(float("nan"), float("nan"))
    ('0.5..2', 'no interval')
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "no interval"
    return f"{low:.4g}..{high:.4g}"


def count(options: Mapping[str, str], name: str, sequences: int | None = None) -> int:
    """An option that is a whole number ≥ 1, a divisor of the `sequences` of a step where they are given.

    Raises:
        Refused: on anything else.
    """
    found = whole(options[name])
    if found is None or found < 1 or (sequences or 0) % found:
        accepted = "≥ 1" if sequences is None else f"that divides the {sequences} sequences of a step"
        raise Refused(f"{name}={options[name]}: accepted is a whole number {accepted}")
    return found
