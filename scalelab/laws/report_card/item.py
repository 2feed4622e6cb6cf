"""One line of a report card."""

from dataclasses import dataclass

NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Item:
    """A question with its answer. Where that is not `known`, or only half of it is, `advice` says what to state."""

    section: str
    question: str
    answer: str
    known: bool
    advice: str = ""


def item(section: str, question: str, answer: str | None, advice: str = "") -> Item:
    """A line whose answer is known unless it is None or empty."""
    if answer:
        return Item(section=section, question=question, answer=answer, known=True)
    return Item(section=section, question=question, answer=NOT_STATED, known=False, advice=advice)


def half(section: str, question: str, answer: str, advice: str) -> Item:
    """A line of which the important part is not known."""
    return Item(section=section, question=question, answer=answer, known=False, advice=advice)
