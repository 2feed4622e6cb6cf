"""A `Command` → the overrides that make it again: what `command_of` does, backwards."""

import re
from collections.abc import Iterable, Iterator

from scalelab.external.kinds import Command
from scalelab.external.stated import DEFAULT_KEYS


def command_overrides(command: Command) -> list[str]:
    """Overrides of the group `trainer`; what is machine's own (cwd, words of this machine) among them."""
    return ["trainer=command", *(f"{key}={value}" for key, value in _values(command))]


def _values(command: Command) -> Iterator[tuple[str, str]]:
    reading = command.reading
    yield "trainer.argv", _listed(command.argv)
    yield from ((f"++trainer.env.{name}", quoted(value)) for name, value in command.env)
    for name, of, texts in command.words:
        yield f"++trainer.words.{name}.of", quoted(of)
        yield from ((f"++trainer.words.{name}.{key}", quoted(text)) for key, text in texts)
    for name in ("kind", "result", "unit"):
        yield f"trainer.metrics.{name}", getattr(reading, name)
    if reading.path is not None:
        yield "trainer.metrics.path", quoted(reading.path)
    if reading.kind == "regex":
        yield "trainer.metrics.patterns", _listed(reading.patterns)
    else:
        keys = {name: quoted(key) for name, key in reading.keys}
        for name, key in (dict.fromkeys(DEFAULT_KEYS, "null") | keys).items():
            yield f"++trainer.metrics.keys.{name}", key
    yield from _options(command)


def _options(command: Command) -> Iterator[tuple[str, str]]:
    yield "trainer.machine_argv", _listed(command.option("machine_argv") or ())
    yield from ((f"++trainer.outcomes.{code}", outcome) for code, outcome in command.option("outcomes") or ())
    required = (
        f"{{that:{quoted(that)},is:{_listed(accepted)},why:{quoted(why)}}}"
        for that, accepted, why in command.option("requires") or ()
    )
    yield "trainer.requires", f"[{','.join(required)}]"
    for name in ("cwd", "timeout_minutes", "grace_seconds"):
        value = command.option(name)
        if value is not None:
            yield f"trainer.{name}", quoted(value) if isinstance(value, str) else str(value)


def _listed(words: Iterable[str]) -> str:
    return f"[{','.join(map(quoted, words))}]"


def quoted(text: str) -> str:
    r"""A text as Hydra's grammar reads it back: backslashes stand for themselves, but before a quote.

    >>> print(quoted('\\d "x" \\'))
    "\d \"x\" \\"
    """
    escaped = re.sub(r'(\\*)"', lambda found: found[1] * 2 + '\\"', text)
    return '"' + re.sub(r"\\+$", lambda found: found[0] * 2, escaped) + '"'
