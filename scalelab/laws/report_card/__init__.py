"""The report card of a study: what a reader must know to repeat it and to trust it, filled in from the fit itself.

The questions are those of the checklist of Li, Kudugunta & Zettlemoyer, "(Mis)Fitting" (arXiv:2502.18969), in its four
groups and in our words: the hypothesis, the training, the data collected, the fitting. What neither the fit nor the
table knows is "not stated", with what to state.
"""

from collections.abc import Sequence

import pandas as pd

from scalelab.laws.report_card.collection import collection
from scalelab.laws.report_card.facts import Facts
from scalelab.laws.report_card.fitting import fitting
from scalelab.laws.report_card.hypothesis import hypothesis
from scalelab.laws.report_card.item import NOT_STATED, Item
from scalelab.laws.report_card.training import training
from scalelab.laws.study import Laws

__all__ = ["NOT_STATED", "Item", "as_markdown", "report_card"]


def report_card(laws: Laws, runs: pd.DataFrame | None = None) -> tuple[Item, ...]:
    """The card of a study.

    Args:
        laws: the study.
        runs: the table it was made from; without it, what only the table knows is not stated.
    """
    facts = Facts(laws=laws, runs=runs)
    return (*hypothesis(facts), *training(facts), *collection(facts), *fitting(facts))


def as_markdown(items: Sequence[Item]) -> str:
    """The card as Markdown: a heading a group, a bullet a question; what is missing says what to state."""
    lines: list[str] = []
    for section in dict.fromkeys(item.section for item in items):
        lines += [f"## {section}", ""]
        for item in items:
            if item.section == section:
                lines.append(f"- **{item.question}** {item.answer}" + (f" *({item.advice})*" if item.advice else ""))
        lines.append("")
    return "\n".join(lines)
