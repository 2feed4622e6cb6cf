"""The group `trainer` of a configuration → the `Command` that it states; the keys are those of conf/trainer."""

import os
import re
from collections.abc import Mapping
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.external.kinds import Command, Reading
from scalelab.secrets import scrubbed
from scalelab.values import real

BUILTIN, COMMAND = "builtin", "command"
KEYS = (
    "name", "argv", "machine_argv", "env", "words", "metrics", "outcomes", "requires", "cwd", "timeout_minutes",
    "grace_seconds",
)  # fmt: skip
METRICS = ("kind", "path", "keys", "patterns", "result", "unit")
OUTCOMES = ("ok", "diverged", "failed")
DEFAULT_KEYS = {"loss": "loss", "validation_loss": "validation_loss", "step": "step"}


def command_of(trainer: Any) -> Command | None:
    """The command that trains a run, None where scalelab does; `Refused` on what is not accepted."""
    name = trainer.get("name") if isinstance(trainer, Mapping) else trainer
    if name not in (BUILTIN, COMMAND):
        raise unknown("trainer", name, (BUILTIN, COMMAND))
    given = _mapping("trainer", trainer)
    for key in given:
        if key not in (KEYS if name == COMMAND else ("name",)):
            raise unknown("key trainer.", key, KEYS if name == COMMAND else ("name",))
    if name == BUILTIN:
        return None
    return Command(
        argv=_words("trainer.argv", given.get("argv")),
        env=tuple(sorted((key, _text(f"trainer.env.{key}", value)) for key, value in _part(given, "env").items())),
        words=tuple(sorted(_followed(key, value) for key, value in _part(given, "words").items())),
        reading=_reading(_part(given, "metrics")),
        options=tuple(sorted(_options(given).items())),
    )


def _reading(given: Mapping[str, Any]) -> Reading:
    for key in given:
        if key not in METRICS:
            raise unknown("key trainer.metrics.", key, METRICS)
    kind = str(given.get("kind", "jsonl"))
    keys = {} if kind == "regex" else DEFAULT_KEYS | ({"step": "_step"} if kind == "wandb" else {})
    keys |= {str(name): key for name, key in _part(given, "keys", "trainer.metrics.keys").items()}
    path = given.get("path")
    return Reading(
        kind=kind,
        path=None if path is None else _text("trainer.metrics.path", path),
        keys=tuple(sorted((name, str(key)) for name, key in keys.items() if key is not None)),
        patterns=_words("trainer.metrics.patterns", given.get("patterns")) if kind == "regex" else (),
        **{name: str(given[name]) for name in ("result", "unit") if name in given},
    )


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    grace = real("trainer.grace_seconds", given.get("grace_seconds", 30))
    if not 0 <= grace <= 3600:
        raise Refused(f"trainer.grace_seconds={grace:g}: accepted is a number from 0 to 3600")
    found: dict[str, Any] = {
        "grace_seconds": grace,
        "outcomes": _outcomes(_part(given, "outcomes")),
        "requires": tuple(_required(each) for each in given.get("requires") or ()),
        "machine_argv": _words("trainer.machine_argv", given.get("machine_argv")),
    }
    if given.get("timeout_minutes") is not None:
        minutes = real("trainer.timeout_minutes", given["timeout_minutes"])
        if not 0 < minutes < float("inf"):
            raise Refused(f"trainer.timeout_minutes={minutes:g}: accepted is a positive number, or null")
        found["timeout_minutes"] = minutes
    if given.get("cwd") is not None:
        found["cwd"] = os.path.abspath(os.path.expanduser(_text("trainer.cwd", given["cwd"])))
        if not os.path.isdir(found["cwd"]):
            raise Refused(f"trainer.cwd={found['cwd']}: accepted is a folder that is there")
    return found


def _outcomes(given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    for code, outcome in given.items():
        if not re.fullmatch(r"\d{1,3}", str(code)) or int(code) > 255:
            raise Refused(f"trainer.outcomes.{code}: accepted is an exit status, 0 to 255")
        if outcome not in OUTCOMES:
            raise unknown(f"trainer.outcomes.{code}", outcome, OUTCOMES)
    return tuple(sorted((str(code), str(outcome)) for code, outcome in given.items()))


def _required(given: Any) -> tuple[str, tuple[str, ...], str]:
    """What must hold: a template, the templates of which one must read the same, and why."""
    if not isinstance(given, Mapping) or set(given) != {"that", "is", "why"}:
        raise Refused(f"trainer.requires: {given!r}: accepted is {{that: TEMPLATE, is: [TEMPLATE, …], why: TEXT}}")
    return str(given["that"]), _words("trainer.requires.is", given["is"]), str(given["why"])


def _followed(name: Any, given: Any) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    texts = dict(_mapping(f"trainer.words.{name}", given))
    if not isinstance(of := texts.pop("of", None), str) or not texts:
        raise Refused(f"trainer.words.{name}: accepted is {{of: NAME, VALUE: TEXT, …}}, by each value of NAME its text")
    for key in (name, *texts):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", _plain(key)):
            raise Refused(f"trainer.words.{name}: {key!r} is no name of letters, digits, _ and -")
    return str(name), of, tuple(sorted((_plain(key), _plain(text)) for key, text in texts.items()))


def _words(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        raise Refused(
            f"{name}={given!r}: accepted is a list of words, [python,train.py,--lr,'{{lr}}'], as no shell parts them"
        )
    words = tuple(_text(f"{name}[{place}]", word) for place, word in enumerate(given or ()))
    for place, word in enumerate(words):
        if scrubbed(word) != word:
            raise Refused(
                f"{name}[{place}] holds a secret of the environment, and would stand in every record: let the command"
                " read it there, it inherits the environment"
            )
    return words


def _text(name: str, value: Any) -> str:
    if value is None or isinstance(value, list | tuple | Mapping):
        raise Refused(f"{name}={value!r}: accepted is text")
    return _plain(value)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _part(given: Mapping[str, Any], key: str, name: str | None = None) -> Mapping[Any, Any]:
    return {} if given.get(key) is None else _mapping(name or f"trainer.{key}", given[key])


def _mapping(name: str, given: Any) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise Refused(f"{name}={given!r}: accepted are keys below it, {name}.KEY=VALUE; see conf/trainer")
    return given
