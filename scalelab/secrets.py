"""What must never be written down: keys and passwords. They are refused at the door, or blotted out where text passes.

A configuration is written to the folder of every run. What stands in the environment is named in it by interpolation,
`${oc.env:NAME}`, which is written as it stands.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scalelab.errors import Refused

# The last word of a key. (`tokens` is a horizon and `bytes_per_token` a density, neither a key.)
NAMES = re.compile(
    r"(api|access|secret|private|auth)[_-]?key([_-]?id)?$|passw(or)?d$|passphrase$|(^|[_-])pwd$|secrets?$|credentials?$"
    r"|(^|(?<!per)[_-])token$",
    re.IGNORECASE,
)
# Of a URL: the password between its user's name and its host.
IN_URL = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^\s:/@?#]*:)(?P<password>[^\s/@]+)@", re.IGNORECASE)
INTERPOLATED = re.compile(r"\$\{[^{}]*\}")
# A reference and nothing else: no default, which would stand there in full.
REFERENCE = re.compile(r"\s*\$\{\s*(oc\.env:\s*\w+\s*(,\s*null\s*)?|[\w.]+)\}\s*")
WHOLE, WITHIN = 8, 12  # characters that a value of the environment has at least, alone or within a text
BLOT = "***"


def refuse_secrets(config: Mapping[str, Any]) -> None:
    """Refuse a configuration, as it would be written, that holds a secret; what is refused is not repeated."""
    known = _environment()
    for path, value in _values(config):
        if what := _secret(path.rpartition(".")[2], value, known):
            raise _refused(path, what)


def refuse_resolved_secrets(config: Mapping[str, Any]) -> None:
    """Refuse a configuration, its interpolations resolved as in a run's specification, that holds a secret."""
    known = _environment()
    for path, value in _values(config):
        if _secret(path.rpartition(".")[2], value, known):
            raise Refused(
                f"{path} stands for a secret, and what it stands for is written to the run's folder: leave it out, what"
                " is started from here has the environment that is here"
            )


def refuse_secret_overrides(overrides: Sequence[str]) -> None:
    """Refuse overrides, KEY=VALUE, that hold a secret."""
    known = _environment()
    for override in overrides:
        key, _, value = override.partition("=")
        path = key.lstrip("+~")
        if what := _secret(path.partition("@")[0].rpartition(".")[2], value, known):
            raise _refused(path, what)


def scrubbed(text: str) -> str:
    """A text without the passwords of its URLs and the secrets of this process's environment.

    >>> scrubbed("no answer from postgresql://me:hunter2@db/runs")
    'no answer from postgresql://me:***@db/runs'
    """
    text = IN_URL.sub(rf"\g<before>{BLOT}@", text)
    for value in _environment():
        text = _within(value).sub(BLOT, text)
    return text


def _values(config: Mapping[str, Any] | list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted path; that of an item of a list is its list's."""
    items = config.items() if isinstance(config, Mapping) else (("", item) for item in config)
    for key, value in items:
        path = f"{prefix}.{key}" if prefix and key != "" else prefix or str(key)
        if isinstance(value, Mapping | list):
            yield from _values(value, path)
        else:
            yield path, value


def _is_literal(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return value.strip("'\" ") not in ("", "null", "???") and REFERENCE.fullmatch(value.strip("'\"")) is None


def _secret(name: str, value: Any, known: Mapping[str, str]) -> str | None:
    """What is secret about a value of that name, None if nothing is; `known` are the secrets of the environment."""
    if NAMES.search(name) and _is_literal(value):
        return "looks like a secret"
    if not isinstance(value, str):
        return None
    for found in IN_URL.finditer(value):
        if REFERENCE.fullmatch(found["password"]) is None and found["password"] != BLOT:
            return "holds a URL with its password"
    text = value.strip("'\" ")
    for secret, variable in known.items():
        if text == secret or _within(secret).search(text):
            return f"holds what ${variable} holds"
    return None


def _refused(path: str, what: str) -> Refused:
    return Refused(
        f"{path} {what}, and a configuration is written to every run's folder: keep it in the environment, and where"
        " it has to be given write '${oc.env:NAME}'"
    )


def _environment() -> dict[str, str]:
    """The secrets of the environment, and what they are called; a path, PWD for one, is none."""
    return {
        value: name for name, value in sorted(os.environ.items())
        if len(value) >= WHOLE and NAMES.search(name) and not os.path.exists(value)
    }  # fmt: skip


def _within(value: str) -> re.Pattern[str]:
    """Where a value stands in a text: a short one only as all of it."""
    if len(value) < WITHIN:
        return re.compile(rf"\A{re.escape(value)}\Z")
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])")
