"""Sections of a page of laws on how far to trust it: hold-outs, choices, published laws, warnings, conventions."""

from scalelab.console import number
from scalelab.laws.draw.style import at
from scalelab.report.section import Section, Study, Table, said_of, table


def held_out(study: Study) -> Section:
    """The largest scale, predicted from the others by every way of choosing."""
    rows = [
        (name, score.method, number(score.mean_percent, ".3g"), number(score.worst_percent, ".3g"),
         number(score.measured_percent, ".3g"), "—" if score.covered is None else f"{100 * score.covered:.0f} %")
        for name, group in study.groups if group.validation is not None for score in group.validation.scores
    ]  # fmt: skip
    head = ("runs of", "way of choosing", "mean excess loss (%)", "worst (%)", "by its own runs (%)",
            "optima inside the 95 % intervals")  # fmt: skip
    off = [
        (name, law, f"{fit.hold_out.error_octaves:+.2f}", number(fit.hold_out.excess_nats, ".2g"))
        for name, group in study.groups for law, fit in group.lr_fits.items() if fit.hold_out is not None
    ]  # fmt: skip
    two_stages = table(("runs of", "law through the smaller optima", "off by (octaves)", "costs (nats)"), off,
                       "Two-stage laws at the largest scale")  # fmt: skip
    notes = [group.validation.note for _, group in study.groups if group.validation and group.validation.note]
    return Section(title="The largest scale, left out", sentences=tuple(notes),
                   tables=(*table(head, rows, "Excess loss of every way of choosing"), *two_stages),
                   figures=("hold_out",),
                   absent="it takes a third scale, and a largest one that knows its own optimum")  # fmt: skip


def sensitivity(study: Study) -> Section:
    """The projection under other choices."""
    tables: list[Table] = []
    for name, group in study.groups:
        for card in group.cards:
            outputs = list(card.spread)
            rows = [(v.choice, *(number(v.projected.get(output)) for output in outputs)) for v in card.variations]
            spread = ", ".join(f"{output} × {factor:.3g}" for output, factor in card.spread.items())
            place = ", ".join(at(k, v) for k, v in card.target.items())
            caption = f"{f'{name}, ' if name else ''}projected to {place}; largest ratio between two: {spread}"
            tables += table(("choice", *outputs), rows, caption, folded=True)
    return Section(title="What the projection rests on", tables=tuple(tables), figures=("sensitivity",))


def published(study: Study) -> Section:
    """What others published, on these runs."""
    rows = [
        (name, each.name, each.output, f"{each.scales}", number(each.mean_percent, ".3g"),
         number(each.worst_percent, ".3g"), each.note)
        for name, group in study.groups for each in group.compared
    ]  # fmt: skip
    head = ("runs of", "law", "of", "scales", "mean (%)", "worst (%)", "note")
    said = ("Of settings: the excess loss at these scales; of losses: the error.",) if rows else ()
    return Section(title="Published laws on these runs", sentences=said, tables=table(head, rows))


def warnings(study: Study) -> Section:
    """What the fits warn of, and what was not fitted and why."""
    said: list[str] = []
    for name, group in study.groups:
        fits = [*group.lr_fits.items(), *group.loss_fits.items()]
        own = [f"{law}: {text}" for law, fit in fits for text in fit.warnings]
        own += [f"joint: {text}" for text in (group.joint.warnings if group.joint is not None else ())]
        own += [f"{law}: not fitted: {reason}" for law, reason in group.not_fitted.items()]
        said += [said_of(name, text) for text in own]
    return Section(title="Warnings", warnings=tuple(said))


def conventions(study: Study) -> Section:
    """What was counted, and how."""
    rows = [(name, words) for name, words in sorted(study.laws.conventions.items())]
    return Section(title="What was counted", tables=table(("quantity", "counted as"), rows))
