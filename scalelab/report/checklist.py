"""Section of a page: what a reader must know to repeat a study and to trust it, and what is not stated."""

from scalelab.laws.report_card import report_card
from scalelab.report.section import Section, Study, Table, table


def checklist(study: Study) -> Section:
    """The report card of the laws, a table a group of questions; what is not known stands out."""
    items = report_card(study.laws, study.runs)
    tables: list[Table] = []
    for name in dict.fromkeys(item.section for item in items):
        own = [item for item in items if item.section == name]
        rows = [(item.question, f"{item.answer} ({item.advice})" if item.advice else item.answer) for item in own]
        tables += table(("question", "answer"), rows, name, marked=[k for k, item in enumerate(own) if not item.known])
    unknown = sum(not item.known for item in items)
    return Section(
        title="Report card",
        sentences=(
            'The questions of the checklist in "(Mis)Fitting" (arXiv:2502.18969), answered from the fit and its table.'
            f" {len(items) - unknown} of {len(items)} are answered.",
        ),
        tables=tuple(tables),
    )
