"""The hypothesis: which law, in what, with how many numbers, and why."""

from scalelab.laws.columns import DERIVED, UNITS
from scalelab.laws.group import GroupLaws
from scalelab.laws.report_card.facts import Facts
from scalelab.laws.report_card.item import Item, item

SECTION = "Hypothesis"
NONE = "no law was fitted; the warnings say why"


def hypothesis(facts: Facts) -> list[Item]:
    """The lines on the law itself."""
    return [
        item(SECTION, "Which form does the law have?", facts.of_groups(_forms), NONE),
        item(SECTION, "In which variables, with which units?", facts.of_groups(_variables), NONE),
        item(SECTION, "How many numbers are fitted?", facts.of_groups(_parameters), NONE),
        item(SECTION, "Where does the form come from?", facts.of_groups(_sources), NONE),
        item(SECTION, "What is assumed on how the variables act together?", facts.of_groups(_assumed), NONE),
    ]


def _forms(group: GroupLaws) -> str | None:
    fits = [*group.loss_fits.items(), *group.lr_fits.items()]
    said = [f"{name}: {fit.law.form}" for name, fit in fits]
    if group.joint is not None:
        what = ", ".join(group.joint.coordinates)
        said.append(f"joint: ln loss = a level for each scale + a valley in {what}, whose bottom is a power of scale")
    return "; ".join(said) or None


def _variables(group: GroupLaws) -> str | None:
    used: dict[str, str] = {}
    for fit in (*group.loss_fits.values(), *group.lr_fits.values()):
        for name in (*fit.reference, fit.law.output):
            column = fit.columns.get(name, name)
            used[column] = UNITS.get(column) or DERIVED.get(column, "")
    if group.joint is not None:
        for name in (*group.joint.reference, *group.joint.coordinates, "loss_nats"):
            used[name] = UNITS.get(name) or DERIVED.get(name, "")
    return "; ".join(f"{name} ({unit})" for name, unit in used.items()) or None


def _parameters(group: GroupLaws) -> str | None:
    fits = [*group.loss_fits.items(), *group.lr_fits.items()]
    said = [f"{name} {sum(e.sd > 0 for e in fit.estimates.values())} from {fit.n}" for name, fit in fits]
    if (joint := group.joint) is not None:
        said.append(f"joint {len(joint.estimates)} with priors, and a level for each of {joint.n_cells} scales,"
                    f" from {joint.n_runs} runs")  # fmt: skip
    return "; ".join(said) or None


def _sources(group: GroupLaws) -> str | None:
    fits = [*group.loss_fits.items(), *group.lr_fits.items()]
    return "; ".join(f"{name}: {fit.law.source}" for name, fit in fits) or None


def _assumed(group: GroupLaws) -> str | None:
    said = []
    if (joint := group.joint) is not None:
        pinned = joint.pinned_by_prior()
        said.append("the optimum is a power law in every scale, its exponents with weak priors"
                    + (f" (which decide {', '.join(pinned)})" if pinned else ""))  # fmt: skip
    if group.loss_fits:
        said.append("the loss follows its form in all of the domain, with errors that do not depend on scale")
    if group.lr_fits:
        said.append("each scale's optimum scatters about the power law by one standard deviation for all")
    return "; ".join(said) or None
