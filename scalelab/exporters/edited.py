"""Whether a recipe says one thing: exporters take its `spec`, so what was changed beside it would be lost silently."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from scalelab.errors import Refused
from scalelab.exporters.texts import one_line
from scalelab.overrides import overrides_of
from scalelab.recipe import Recipe, resolved
from scalelab.spec import RunSpec, as_plain, from_plain

CLOSE = 1e-9  # relative; a table's products may be rounded otherwise on another machine


def refuse_edited(recipe: Recipe) -> None:
    """`Refused` where a value of a recipe is not what its `spec` says, naming the first."""
    spec = from_plain(recipe.spec)
    pairs = [
        ("lr.value", recipe.lr.value, spec.hparams.lr),
        *((name, getattr(recipe, name), value) for name, value in resolved(spec, recipe.lr).items()),
        ("overrides", *_overrides(recipe, spec)),
    ]
    for name, said, wanted in pairs:
        for place, here, there in differences(name, as_plain(said), as_plain(wanted)):
            raise Refused(
                f"{one_line(place)} is {here!r} in the recipe and {there!r} by its spec, which is what is exported: a"
                " recipe is not changed in single values; write another with `scalelab recommend` (--published takes"
                " settings of your own, KEY=VALUE after --), or change the exported files"
            )


def differences(place: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two plain values differ beyond rounding, each place with both; NaN is NaN."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {**other, **one}:
            yield from differences(f"{place}.{key}", one.get(key), other.get(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (here, there) in enumerate(zip(one, other, strict=True)):
            yield from differences(f"{place}[{index}]", here, there)
    elif not _same(one, other):
        yield place, one, other


def _same(one: Any, other: Any) -> bool:
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (one, other))
    if not numbers:
        return bool(one == other)
    return math.isclose(one, other, rel_tol=CLOSE) or (math.isnan(one) and math.isnan(other))


def _overrides(recipe: Recipe, spec: RunSpec) -> tuple[dict[str, str], dict[str, str]]:
    """Those of the recipe, and what they should be: a newer version may state keys that an older one did not."""
    said, wanted = ({key: value for key, _, value in (each.partition("=") for each in those)}
                    for those in (recipe.overrides, overrides_of(spec)))  # fmt: skip
    return said, {key: value for key, value in wanted.items() if key in said}
