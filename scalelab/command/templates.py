"""Templates: {NAME} and {NAME:FORMAT} in a text, filled from a flat table of values. {{ and }} are braces.

Not `str.format`, which reaches attributes and items of what it is given: a name is looked up, and that is all.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from scalelab.errors import Refused
from scalelab.external import refuse_control

Value = int | float | str | bool | None

PIECE = re.compile(r"\{\{|\}\}|\{([^{}:]*)(?::([^{}]*))?\}|[{}]")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
FORMAT = re.compile(r"[ +-]?0?\d{0,2}[,_]?(\.\d{1,2})?[deEfFgGsx%]?")


@dataclass(frozen=True, kw_only=True)
class Names:
    """What templates may name. `finer` are the names in place of one that does not say which value is meant."""

    values: Mapping[str, Value]
    finer: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def value(self, name: str, where: str) -> Value:
        """The value of a name; `Refused` where there is none, with what was probably meant."""
        if name in self.values:
            return self.values[name]
        if name in self.finer:
            differ = ", ".join(f"{{{each}}} {text(self.values[each])}" for each in self.finer[name])
            raise Refused(f"{where}: {{{name}}} is not one value here, say which: {differ}")
        near = difflib.get_close_matches(name, [*self.values, *self.finer], n=3)
        hint = f"did you mean {', '.join(f'{{{each}}}' for each in near)}?" if near else (
            "names are keys of conf/train.yaml, sizes, and values of parameter groups: {lr}, {width}, {lr.hidden}, …"
        )  # fmt: skip
        raise Refused(f"{where}: no value is named {{{name}}}: {hint}")


def filled(template: str, names: Names, where: str) -> str:
    """The text of a template; numbers so that they are read back exactly, unless a format says otherwise.

    Raises:
        Refused: on an unknown or ambiguous name, one without a value, a format that does not fit, a stray brace, or a
            value that would break a line.

    >>> filled("--lr={lr:.2e}{{x}}", Names(values={"lr": 0.01}), "argv[0]")
    '--lr=1.00e-02{x}'
    """

    def piece(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None:
            raise Refused(f"{where}: {template!r} has a stray {found[0]!r}: write {found[0] * 2} for a brace")
        if not NAME.fullmatch(found[1]):
            raise Refused(f"{where}: {found[0]}: accepted is {{NAME}} or {{NAME:FORMAT}}, as {{lr.hidden:.6g}}")
        value = names.value(found[1], where)
        if value is None:
            raise Refused(f"{where}: {found[0]} has no value in this run (null): leave the word out, or set it")
        return text(value) if found[2] is None else _formatted(value, found[2], f"{where}: {found[0]}")

    result = PIECE.sub(piece, template)
    refuse_control(where, result)
    return result


def text(value: Value) -> str:
    """A value in words: floats in the fewest digits that are read back as they are."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _formatted(value: Value, form: str, where: str) -> str:
    if not FORMAT.fullmatch(form):
        raise Refused(f"{where}: the format {form!r} is none of numbers: accepted are .6g, .3e, 08d, …")
    try:
        return format(value, form)
    except (ValueError, TypeError):
        raise Refused(f"{where}: the format {form!r} does not fit {text(value)}") from None
