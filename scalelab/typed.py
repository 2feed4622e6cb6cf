"""Plain data, as YAML and JSON hold it, turned into dataclasses by their annotations; `Refused` names what is wrong."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from scalelab.errors import Refused


@dataclass(frozen=True, kw_only=True)
class Number:
    """In `Annotated[float, Number(…)]`: from `low` on, or `above` it; finite, unless `nan` or `infinite` say more."""

    low: float = -math.inf
    above: bool = False
    nan: bool = False
    infinite: bool = False

    def has(self, value: float) -> bool:
        if math.isnan(value):
            return self.nan
        return (self.infinite or math.isfinite(value)) and (value > self.low if self.above else value >= self.low)

    @property
    def words(self) -> str:
        bound = f" {'>' if self.above else '≥'} {self.low:g}" if math.isfinite(self.low) else ""
        return f"number{bound}{' or NaN' if self.nan else ''}"


@dataclass(frozen=True)
class OneOf:
    """In `Annotated[str, OneOf(…)]`: one of the names."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Having:
    """In `Annotated[Mapping[…], Having(…)]`: with these keys, and maybe others."""

    keys: tuple[str, ...]


FINITE = Number()


def built(kind: Any, plain: Any, where: str = "") -> Any:
    """`plain` as `kind`: a dataclass, number, text, tuple, mapping, union of these, or `Any` plain data.

    Raises:
        Refused: in one line, on a value of another type or outside its range, a key that is missing or unknown.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _dataclass(kind, plain, where)
    if origin is Annotated:
        return _marked(parts[0], parts[1], plain, where)
    if kind in (int, float):
        return _number(kind, FINITE, plain, where)
    if origin in (Union, UnionType):
        return _either(parts, plain, where)
    if origin is Literal:
        return _named(parts, plain, where)
    if origin is tuple:
        return _tuple(parts, plain, where)
    if origin is Mapping:
        return {key: built(parts[1], value, f"{where}.{key}") for key, value in _mapping(plain, where).items()}
    if kind is Any:
        return _anything(plain, where)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(_named(tuple(kind), plain, where))
    if kind not in (str, bool, NoneType):
        raise TypeError(f"{where}: no plain data is {kind!r}")
    if not isinstance(plain, kind):
        raise _refusal(where, plain, {str: "text", bool: "true or false", NoneType: "null"}[kind])
    return plain


def _refusal(where: str, plain: Any, accepted: str) -> Refused:
    return Refused(f"{where or 'it'} is {reprlib.repr(plain)}: accepted is {accepted}")


def _dataclass(kind: Any, plain: Any, where: str) -> Any:
    given, hints = _mapping(plain, where), get_type_hints(kind, include_extras=True)
    needed = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}
    if odd := sorted((given.keys() - hints.keys()) | (needed - given.keys())):
        raise Refused(f"{where or 'it'} has {reprlib.repr(odd)} missing or unknown")
    prefix = f"{where}." if where else ""
    return kind(**{name: built(hints[name], value, f"{prefix}{name}") for name, value in given.items()})


def _marked(kind: Any, mark: Number | OneOf | Having, plain: Any, where: str) -> Any:
    if isinstance(mark, Number):
        return _number(kind, mark, plain, where)
    if isinstance(mark, OneOf):
        return _named(mark.names, plain, where)
    found = built(kind, plain, where)
    if missing := [key for key in mark.keys if key not in found]:
        raise Refused(f"{where} lacks {', '.join(missing)}")
    return found


def _number(kind: type[Any], accepted: Number, plain: Any, where: str) -> float | int:
    right = isinstance(plain, kind | int) and not isinstance(plain, bool)
    try:
        if right and accepted.has(float(plain)):
            return plain  # type: ignore[no-any-return]  # as it is: 1 for a float stays 1
    except OverflowError:
        pass
    raise _refusal(where, plain, f"a {'whole ' if kind is int else ''}{accepted.words}")


def _named(names: tuple[Any, ...], plain: Any, where: str) -> Any:
    if not isinstance(plain, str) or plain not in names:
        raise _refusal(where, plain, f"one of {', '.join(map(str, names))}")
    return plain


def _either(kinds: tuple[Any, ...], plain: Any, where: str) -> Any:
    refused = []
    for kind in kinds:
        try:
            return built(kind, plain, where)
        except Refused as refusal:
            refused.append(str(refusal).partition(": accepted is ")[2])
    raise _refusal(where, plain, " or ".join(filter(None, refused)))


def _tuple(kinds: tuple[Any, ...], plain: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(plain, list | tuple):
        raise _refusal(where, plain, "a list")
    each = kinds[:1] * len(plain) if kinds[-1] is Ellipsis else kinds
    if len(each) != len(plain):
        raise _refusal(where, plain, f"a list of {len(each)}")
    return tuple(built(kind, value, f"{where}[{at}]") for at, (kind, value) in enumerate(zip(each, plain, strict=True)))


def _mapping(plain: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(plain, Mapping) or not all(isinstance(key, str) for key in plain):
        raise _refusal(where, plain, "a mapping with texts as keys")
    return plain


def _anything(plain: Any, where: str) -> Any:
    """JSON types, as they are: YAML knows dates, sets and bytes too."""
    if isinstance(plain, list):
        return [_anything(value, f"{where}[{at}]") for at, value in enumerate(plain)]
    if isinstance(plain, Mapping):
        return {key: _anything(value, f"{where}.{key}") for key, value in _mapping(plain, where).items()}
    if plain is None or isinstance(plain, bool | int | float | str):
        return plain
    raise _refusal(where, plain, "a number, text, true, false, null, a list or a mapping of these")
