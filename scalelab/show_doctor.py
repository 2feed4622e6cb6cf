"""What a look at the machine says, for people: topic by topic, with what to do below what is not fine."""

from collections.abc import Sequence

from rich.console import Console

from scalelab.console import say
from scalelab.doctor import Finding, State, is_broken

STYLES = {State.FINE: None, State.ABSENT: "dim", State.WARNING: "yellow", State.BROKEN: "bold red"}
SAID = {State.FINE: "fine", State.ABSENT: "absent", State.WARNING: "WARNING", State.BROKEN: "BROKEN"}


def findings(found: Sequence[Finding], console: Console) -> None:
    """A line a finding, what to do, and the answer in one line."""
    topic = ""
    for each in found:
        if each.topic != topic:
            say(console, each.topic, "bold")
            topic = each.topic
        say(console, f"  {SAID[each.state]:7}  {each.about}: {each.seen}", STYLES[each.state])
        if each.advice:
            say(console, f"           → {each.advice}", STYLES[each.state])
    counts = (
        (sum(each.state is state for each in found), word) for state, word in SAID.items() if state is not State.FINE
    )
    rest = ", ".join(f"{count} {word}" for count, word in counts if count)
    said = "something that is needed is broken" if is_broken(found) else "all that is needed works"
    say(console, f"{said}{f' ({rest})' if rest else ''}", "bold red" if is_broken(found) else "bold")
