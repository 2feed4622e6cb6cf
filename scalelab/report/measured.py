"""Sections of a page of laws: optima, exponents, loss laws."""

from scalelab.console import interval, number
from scalelab.laws import Estimate, GroupLaws
from scalelab.laws.draw.style import label, short
from scalelab.parametrizations import TABLES
from scalelab.plots.linked import OPTIMUM, anchors
from scalelab.plots.named import cells_of, independent
from scalelab.report.section import Section, Study, said_of, table

SIGNED = "+.3f"
NO_LEARNING_RATES = "it takes runs with several learning rates at two scales or more: scalelab train -m +sweep=lr_width"


def optima(study: Study) -> Section:
    """The optimum of every scale by itself."""
    scales = list(dict.fromkeys(name for _, group in study.groups for name in independent(cells_of(group))))
    rows = [
        (name, *(short(o.scale[s]) if s in o.scale else "" for s in scales),
         interval(o.lr, o.lr_low, o.lr_high, ".3g"), number(o.loss_nats), f"{o.n_runs}", f"{o.n_diverged or ''}",
         o.status.lower().replace("_", " "), o.advice)
        for name, group in study.groups for o in group.optima
    ]  # fmt: skip
    measured = ("best lr [95 %]", "loss (nats)", "runs", "diverged", "status", "what to add")
    head = ("runs of", *map(label, scales), *measured)
    noise = [
        said_of(name, f"one run's noise is {number(group.noise.sd_nats, '.2g')} nats ({group.noise.source}).")
        for name, group in study.groups if group.noise is not None
    ]  # fmt: skip
    return Section(
        title="Best learning rates, scale by scale", sentences=tuple(noise),
        tables=table(head, rows, anchors=anchors(OPTIMUM, range(len(rows)))), figures=("valleys",),
        absent=NO_LEARNING_RATES,
    )  # fmt: skip


def exponents(study: Study) -> Section:
    """Exponents of the optimum: the joint law beside the two-stage one, and theory."""
    rows = [row for name, group in study.groups for row in _exponents(name, group, study.laws.theory)]
    head = ("runs of", "optimum", "in", "joint [95 %]", "profile", "cells resampled", "two stages [95 %]", "theory")
    said = [said_of(name, f"{group.joint.status}.") for name, group in study.groups if group.joint]
    return Section(
        title="How the optimum moves", sentences=tuple(said), tables=table(head, rows),
        figures=("optimum", "optimum_pairs"), absent=NO_LEARNING_RATES,
    )  # fmt: skip


def _exponents(name: str, group: GroupLaws, theory: dict[str, float]) -> list[tuple[str, ...]]:
    joint = {} if group.joint is None else group.joint.coordinates
    two = group.lr_fits.get("power") or group.lr_fits.get("power_params")
    wanted = [(q, x) for q, covariates in joint.items() for x in covariates]
    wanted += [("lr", x) for x in (two.reference if two is not None else ()) if ("lr", x) not in wanted]
    rows: list[tuple[str, ...]] = []
    for q, x in wanted:
        e = None if group.joint is None else group.joint.estimates.get(f"{q} ~ {x}")
        other = two.estimates.get(x) if two is not None and q == "lr" else None
        claimed = TABLES.get(str(group.key.get("parametrization")))
        known = q == "lr" and x in theory and (claimed is None or x in claimed.transfers)
        against = number(theory[x], "g") if known else "—"
        rows.append((name, q, x, _of(e), _pair(e.profile if e else None), _pair(e.bootstrap if e else None), _of(other),
                     against))  # fmt: skip
    return rows


def _of(e: Estimate | None, form: str = SIGNED) -> str:
    return "—" if e is None else interval(e.value, e.low, e.high, form)


def _pair(pair: tuple[float, float] | None, form: str = SIGNED) -> str:
    return "—" if pair is None else f"[{number(pair[0], form)}, {number(pair[1], form)}]"


def losses(study: Study) -> Section:
    """Every form that the runs can carry, by how it predicts, and the coefficients of the best."""
    scored = [
        (name, score.law, f"{score.parameters}", number(score.aicc, ".1f"), number(score.cv_percent, ".2g"),
         number(score.hold_out_percent, "+.2g"), f"{100 * score.weight:.0f} %")
        for name, group in study.groups for score in group.loss_scores
    ]  # fmt: skip
    head = ("runs of", "law", "numbers", "AICc above the best", "error on sizes left out (%)",
            "error at the largest (%)", "weight")  # fmt: skip
    fitted = [
        (name, law, parameter, _of(e, ".4g"), _pair(e.bootstrap, ".3g"), _pair(e.profile, ".3g"), _pair(e.delta, ".3g"))
        for name, group in study.groups for law, fit in group.loss_fits.items()
        for parameter, e in fit.estimates.items()
    ]  # fmt: skip
    named = ("runs of", "law", "coefficient", "value [95 %]", "bootstrap", "profile", "delta")
    said = [
        said_of(name, f"{law}: {fit.law.form} ({fit.law.source}). {fit.status}.")
        for name, group in study.groups for law, fit in group.loss_fits.items()
    ]  # fmt: skip
    return Section(
        title="Loss laws", sentences=tuple(said),
        tables=(*table(head, scored, "Forms compared"), *table(named, fitted, "Coefficients")),
        figures=("loss_law", "loss_pairs"),
    )  # fmt: skip


def front(study: Study) -> Section:
    """Loss against compute; nothing where the runs do not say what they cost."""
    said = "What a loss costs, over all groups together. On the front is the best that any compute bought here."
    known = "cost_flops" in study.runs and study.runs["cost_flops"].nunique() > 1
    return Section(
        title="Loss against compute", sentences=(said,) if known else (), figures=("front",),
        absent="the runs state no cost_flops",
    )  # fmt: skip
