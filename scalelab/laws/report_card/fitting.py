"""The fitting: what was minimised, how, on which rows, and how its validity was judged."""

from scalelab.laws.fitted import Fit
from scalelab.laws.group import GroupLaws
from scalelab.laws.report_card.facts import Facts
from scalelab.laws.report_card.item import Item, item

SECTION = "Fitting"
NONE = "no law was fitted; the warnings say why"


def fitting(facts: Facts) -> list[Item]:
    """The lines on the fit."""
    return [
        item(SECTION, "What is minimised?", facts.of_groups(_objective), NONE),
        item(SECTION, "By which algorithm?", facts.of_groups(_algorithm), NONE),
        item(SECTION, "From which starts, and did they agree?", facts.of_groups(_starts),
             "the two-stage laws need no starts; loss laws report theirs"),
        item(SECTION, "Are all points used?", facts.of_groups(_used)),
        item(SECTION, "What of outliers?", facts.of_groups(_outliers), NONE),
        item(SECTION, "How certain are the numbers?", facts.of_groups(_certain), NONE),
        item(SECTION, "How was validity judged?", facts.of_groups(_judged),
             "train a third scale: then the largest can be predicted from the others"),
        item(SECTION, "What do the runs leave open?", facts.of_groups(_open)),
        item(SECTION, "How is it repeated?", f"seed {facts.laws.seed}, {facts.laws.draws} draws; the same table and"
             " seed give the same numbers"),
    ]  # fmt: skip


def _searched(group: GroupLaws) -> list[tuple[str, Fit]]:
    return [(name, fit) for name, fit in group.loss_fits.items() if fit.search is not None]


def _objective(group: GroupLaws) -> str | None:
    said = [f"{name}: {fit.search.objective}" for name, fit in _searched(group) if fit.search is not None]
    if group.lr_fits:
        said.append("two-stage laws: likelihood of the optima, normal with known errors and a scatter; bounds by their"
                    " probability")  # fmt: skip
    if group.joint is not None:
        said.append("joint: posterior of all runs' ln loss, residuals far out weighed down")
    return "; ".join(said) or None


def _algorithm(group: GroupLaws) -> str | None:
    said = []
    if _searched(group):
        said.append("loss laws: starts screened, the best followed by Levenberg–Marquardt")
    if group.lr_fits:
        said.append("two-stage laws: weighted least squares, expectation over what bounds leave open")
    if group.joint is not None:
        said.append("joint: Newton steps in its parameters and every scale's level and offsets")
    return "; ".join(said) or None


def _starts(group: GroupLaws) -> str | None:
    return "; ".join(
        f"{name}: {fit.search.reached} of {fit.search.followed} followed (of {fit.search.starts}) reached the best"
        for name, fit in _searched(group) if fit.search is not None
    ) or None  # fmt: skip


def _used(group: GroupLaws) -> str | None:
    said = [f"{group.n_runs} runs are used, of which {group.n_diverged} diverged and bound the stable learning rate"]
    if group.n_failed:
        said.append(f"{group.n_failed} that failed were dropped")
    if group.n_repeated:
        said.append(f"{group.n_repeated} repeated rows were dropped")
    if unusable := sum(optimum.status in ("UNUSABLE", "DIVERGED") for optimum in group.optima):
        said.append(f"{unusable} of {len(group.optima)} sweeps bound their optimum on one side or not at all")
    if censored := sum(o.status in ("AT_OR_BELOW", "AT_OR_ABOVE", "BRACKETED") for o in group.optima):
        said.append(f"{censored} of {len(group.optima)} sweeps give a bound and no optimum")
    return "; ".join(said)


def _outliers(group: GroupLaws) -> str | None:
    if not (_searched(group) or group.joint or group.lr_fits):
        return None
    return "none is removed" + ("; a robust loss weighs them down" if _searched(group) or group.joint else "")


def _certain(group: GroupLaws) -> str | None:
    said = []
    for name, fit in _searched(group):
        assert fit.search is not None
        said.append(f"{name}: 95 % by resampling {fit.search.clusters} {fit.search.unit}s, beside profile and delta")
    if group.lr_fits:
        said.append("two-stage laws: draws of the optima by the noise of the losses")
    if group.joint is not None:
        said.append("joint: posterior, beside cells resampled and profiles")
    return "; ".join(said) or None


def _judged(group: GroupLaws) -> str | None:
    said = [
        f"{name}: the largest scale left out is predicted {fit.hold_out.error_octaves:+.2f} octaves off, costing"
        f" {fit.hold_out.excess_nats:.2g} nats"
        for name, fit in group.lr_fits.items() if fit.hold_out is not None
    ]  # fmt: skip
    if (left := group.validation) is not None:
        lost = ", ".join(f"{score.method} {score.mean_percent:.2g} %" for score in left.scores[:3])
        said.append(f"settings for {len(left.held_out)} largest scales from the smaller ones lose {lost}")
    for score in group.loss_scores:
        if score.law in group.loss_fits and score.cv_percent is not None:
            said.append(f"{score.law}: {score.cv_percent:.2g} % off on sizes left out")
    said += [f"{name}: R² {fit.search.r2:.4f}, in sample" for name, fit in _searched(group) if fit.search is not None]
    return "; ".join(said) or None


def _open(group: GroupLaws) -> str:
    fits = [*group.lr_fits.items(), *group.loss_fits.items()]
    said = [f"{name}: {text}" for name, fit in fits for text in fit.warnings]
    said += [f"joint: {text}" for text in group.joint.warnings] if group.joint is not None else []
    return "; ".join(said) or "nothing that the fits could see"
