"""What a specification holds of a trainer that is not ours: its command line as templates, how its losses are read."""

import re
from dataclasses import dataclass, field
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.secrets import NAMES as SECRETS

KINDS = ("jsonl", "wandb", "regex")
RESULTS = ("last_validation", "last_training", "min_training")
UNITS = ("nats_per_token", "bits_per_token", "bits_per_byte")
READ = ("loss", "validation_loss", "step", "tokens")  # what is read of a line
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
NAMED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")  # quantifiers without an end


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the losses of a command are read.

    `path` is a template, relative to the run folder: of kind "jsonl" the file, of "wandb" the folder above W&B's own,
    of "regex" the text that it writes (None: what it prints). `keys` are the names there of what is read (`READ`);
    `patterns` have them as named groups, and are searched for in each line. `result` says which of the losses is that
    of the run, `unit` in what they are measured.

    Raises:
        Refused: on what is not accepted, a pattern that does not compile, or one that can take forever.
    """

    kind: str
    path: str | None = None
    keys: tuple[tuple[str, str], ...] = ()
    patterns: tuple[str, ...] = ()
    result: str = "last_validation"
    unit: str = "nats_per_token"

    def __post_init__(self) -> None:
        for name, accepted in (("kind", KINDS), ("result", RESULTS), ("unit", UNITS)):
            if getattr(self, name) not in accepted:
                raise unknown(f"trainer.metrics.{name}", getattr(self, name), accepted)
        if self.path is not None:
            refuse_control("trainer.metrics.path", self.path)
        for name, _ in self.keys:
            if name not in READ:
                raise unknown("key trainer.metrics.keys.", name, READ)
        needed = "validation_loss" if self.result == "last_validation" else "loss"
        there = {name for pattern in self.patterns for name in _groups(pattern)}
        if self.kind != "regex":
            there = {name for name, _ in self.keys}
        if needed not in there:
            asked = "a pattern with the group" if self.kind == "regex" else "trainer.metrics.keys with"
            raise Refused(
                f"trainer.metrics.result={self.result} needs {asked} {needed!r}; a training loss is taken for the"
                " result with result=last_training or min_training"
            )


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line as the trainer of a run: words, each a template (`command.templates`); no shell ever sees them.

    `env` are further variables of its environment. `words` are further names for templates: of each the name that it
    follows, and its text by that one's value. `options` are no part of a run's identity: where, for how long, on which
    machine (`machine_argv`), what an exit status means, what must hold.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    words: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = ()
    reading: Reading
    options: tuple[tuple[str, Any], ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.argv:
            raise Refused("trainer.argv is empty: accepted are the words of a command, [python,train.py,--lr,'{lr}']")
        for place, word in enumerate(self.argv):
            refuse_control(f"trainer.argv[{place}]", word)
        for name, value in self.env:
            refuse_control(f"trainer.env.{name}", value)
            if not NAMED.fullmatch(name) or name.startswith("SCALELAB_"):
                raise Refused(
                    f"trainer.env.{name}: accepted is the name of a variable, letters, digits and _; those that begin"
                    " with SCALELAB_ are ours"
                )
            if SECRETS.search(name):
                raise Refused(
                    f"trainer.env.{name} looks like a secret, and would stand in every record: export it where scalelab"
                    " is started, the command inherits it"
                )

    def option(self, name: str) -> Any:
        """An option, None where it is not given."""
        return dict(self.options).get(name)


def from_plain_command(plain: Any) -> Command:
    """The `Command` that JSON holds; `TypeError`, `KeyError` or `Refused` where it is something else."""
    reading = dict(plain["reading"])
    reading["keys"] = tuple((name, key) for name, key in reading["keys"])
    reading["patterns"] = tuple(reading["patterns"])
    return Command(
        argv=tuple(plain["argv"]),
        env=tuple((name, value) for name, value in plain["env"]),
        words=tuple((name, of, tuple((a, b) for a, b in texts)) for name, of, texts in plain["words"]),
        reading=Reading(**reading),
        options=tuple((name, _frozen(value)) for name, value in plain["options"]),
    )


def refuse_control(name: str, text: str) -> None:
    """Refuse what no argument should hold: a line break would make another line of whatever prints it, NUL ends it."""
    if found := CONTROL.search(text):
        raise Refused(f"{name} holds the character {found[0]!r}: accepted is text in one line")


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern, checked; see `Reading`."""
    shown = f"trainer.metrics.patterns: {pattern!r}"
    refuse_control("trainer.metrics.patterns", pattern)
    try:
        found = re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise Refused(f"{shown} is no regular expression of Python: {error}") from None
    if odd := sorted(set(found.groupindex) - set(READ)):
        raise unknown(f"group of {shown}", odd[0], READ)
    if not {"loss", "validation_loss"} & set(found.groupindex):
        raise Refused(f"{shown} reads no loss: name a group, (?P<loss>…) or (?P<validation_loss>…)")
    if _repeats_repeats(pattern):
        raise Refused(f"{shown} repeats what is itself repeated, which can take forever: write it with one + or *")
    return found


def _groups(pattern: str) -> set[str]:
    return set(compiled(pattern).groupindex)


def _repeats_repeats(pattern: str) -> bool:
    """Whether a group is repeated without end that can match one text in several ways: (a+)+, (a|aa)+ take 2ⁿ steps."""
    plain = re.sub(r"\\.", "_", pattern)
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "_", plain)
    inside = [False]
    for place, character in enumerate(plain):
        if character == "(":
            inside.append(False)
        elif character == ")" and len(inside) > 1:
            repeated = inside.pop()
            if repeated and UNBOUNDED.match(plain, place + 1):
                return True
            inside[-1] |= repeated
        elif character == "|" or UNBOUNDED.match(plain, place):
            inside[-1] = True
    return False


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value
