"""Sections of a study's page on how optima move: drift and exponents, batch and weight decay."""

from dataclasses import replace

from scalelab.console import interval, number
from scalelab.laws import drift
from scalelab.laws.draw.style import short
from scalelab.report.measured import exponents
from scalelab.report.section import Section, Study, said_of, table

FORMS = ("runs of", "law", "exponent or coefficient", "value [95 %]")
BATCH = "it takes runs with several batches (or weight decays) at each size: scalelab train -m … batch_tokens=…,…"


def optimum(study: Study) -> Section:
    """How far the optimum moves over the sweep and what not following it would cost, then the exponents."""
    rows = []
    for name, group in study.groups:
        moved = drift(group) if group.optima else None
        if moved is None:
            continue
        e = moved.exponent
        rows.append(
            (name, f"{moved.scale.replace('_', ' ')} {short(moved.smallest)} → {short(moved.largest)}",
             f"{2**moved.first_log2_lr:.3g} → {2**moved.last_log2_lr:.3g}",
             f"{moved.octaves:+.2f} ± {moved.sd_octaves:.2f}",
             "—" if e is None else interval(e.value, e.low, e.high, "+.2f"), f"{moved.copy_cost_nats:.4f} nats")
        )  # fmt: skip
    head = ("runs of", "from … to", "best lr", "drift (octaves)", "exponent, two stages [95 %]",
            "copying the smallest's costs")  # fmt: skip
    found = exponents(study)
    captioned = tuple(replace(each, caption="Exponents, by every way of fitting them") for each in found.tables)
    forms = _forms(study, of_lr=True)
    return replace(found, title="How the best learning rate moves",
                   tables=(*table(head, rows), *captioned,
                           *table(FORMS, forms, "Published forms, fitted to these optima", folded=True)))  # fmt: skip


def settings(study: Study) -> Section:
    """Laws of the batch and the weight decay (as AdamW's time scale), where they were swept."""
    rows: list[tuple[str, ...]] = [
        (name, "joint", parameter, interval(e.value, e.low, e.high, "+.3f"))
        for name, group in study.groups if group.joint is not None
        for parameter, e in group.joint.estimates.items()
        if parameter.split(" ~ ")[0] in group.joint.coordinates and not parameter.startswith("lr ")
        and parameter != "lr" and " ~ " in parameter
    ]  # fmt: skip
    rows += _forms(study, of_lr=False)
    said = [
        said_of(name, f"{law}: {fit.law.form} ({fit.law.source}). {fit.status}; scatter {number(fit.scatter, '.2g')}"
                " octaves.")
        for name, group in study.groups for law, fit in group.setting_fits.items() if fit.law.output != "lr"
    ]  # fmt: skip
    return Section(
        title="Batch and weight decay", sentences=tuple(said) if rows else (),
        tables=table(FORMS, rows), absent=BATCH,
    )  # fmt: skip


def _forms(study: Study, *, of_lr: bool) -> list[tuple[str, ...]]:
    """Coefficients of the forms that were fitted to optima, of the learning rate's or of the others'."""
    return [
        (name, law, f"{fit.law.output}: {coefficient}", interval(e.value, e.low, e.high))
        for name, group in study.groups for law, fit in group.setting_fits.items()
        if (fit.law.output == "lr") is of_lr for coefficient, e in fit.estimates.items()
    ]  # fmt: skip
