"""What a look at the machine says: what was looked at, how it is, what to do."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """FINE; ABSENT: optional, and not here; WARNING: works, and may go wrong; BROKEN: needed, and does not work."""

    FINE = "fine"
    ABSENT = "absent"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing: its `topic`, its state, what was seen, and what to do where it is not fine."""

    topic: str
    about: str
    state: State
    seen: str
    advice: str = ""


def fine(topic: str, about: str, seen: str) -> Finding:
    """Nothing is to be done."""
    return Finding(topic=topic, about=about, state=State.FINE, seen=seen)


def absent(topic: str, about: str, seen: str, advice: str) -> Finding:
    """Optional, and not here."""
    return Finding(topic=topic, about=about, state=State.ABSENT, seen=seen, advice=advice)


def warning(topic: str, about: str, seen: str, advice: str) -> Finding:
    """It works, and may go wrong."""
    return Finding(topic=topic, about=about, state=State.WARNING, seen=seen, advice=advice)


def broken(topic: str, about: str, seen: str, advice: str) -> Finding:
    """It is needed, and does not work."""
    return Finding(topic=topic, about=about, state=State.BROKEN, seen=seen, advice=advice)
