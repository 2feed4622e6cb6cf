"""Section of a study's page on a search: the best so far, the front, every trial."""

import math

from scalelab.console import number
from scalelab.plots.linked import TRIAL, anchors
from scalelab.plots.searched import front
from scalelab.report.found import Found
from scalelab.report.inline import inline
from scalelab.report.section import Picture, Section, table

MOST_TRIALS = 5000


def search(found: Found) -> Section:
    """What a search tried and found."""
    if (own := found.search) is None:
        return Section(title="The search")
    counts = ", ".join(f"{count:,} {what}" for what, count in own.counts("outcome").items())
    said = [f"{own.name}: {len(own.tried):,} trials ({counts}), {number(own.spent, '.3g')} {own.cost or 'spent'}."]
    if own.best is not None:
        params = ", ".join(f"{name} {_value(value)}" for name, value in own.best.params.items())
        said.append(f"The best is trial {own.best.number}: {number(own.best.loss, '.4f')} with {params}.")
    shown = own.tried[:MOST_TRIALS]
    names = list(dict.fromkeys(name for each in shown for name in each.params))
    rows = [
        (f"{each.number}", each.outcome, each.phase, number(each.loss, ".4f"),
         number(each.cost if math.isfinite(each.cost) else None, ".3g"),
         *(_value(each.params.get(name, "")) for name in names))
        for each in shown
    ]  # fmt: skip
    pictures: tuple[Picture, ...] = ()
    if own.front:
        caption = "Points are trials, the black steps the front: what no cheaper trial beats; crosses diverged."
        body = inline(front(own, linked=True), "search", f"Loss against cost of the search. {caption}")
        pictures = (Picture(title="Loss against cost", caption=caption, body=body),)
    caption = (
        "Every trial" if len(shown) == len(own.tried) else f"The first {len(shown):,} of {len(own.tried):,} trials"
    )
    return Section(
        title="The search", sentences=tuple(said), pictures=pictures,
        tables=table(("trial", "outcome", "phase", own.objectives[0], own.cost or "cost", *names), rows, caption,
                     anchors=anchors(TRIAL, [each.number for each in shown]), folded=True),
    )  # fmt: skip


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
