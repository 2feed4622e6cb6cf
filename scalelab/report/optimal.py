"""Section of a page of laws: the compute-optimal size, where budgets were swept."""

from scalelab.console import interval, number
from scalelab.errors import Refused
from scalelab.laws.checked import checked
from scalelab.laws.compute_optimal import IsoFlop
from scalelab.laws.draw.style import short
from scalelab.laws.isoflop import isoflop
from scalelab.plots.named import rows_of
from scalelab.report.section import Section, Study, said_of, table


def compute_optimal(study: Study) -> Section:
    """How the best size and tokens grow with the budget; empty where no sizes were compared at equal compute."""
    if study.runs.empty:
        return Section(title="Best size for a budget")
    runs = checked(study.runs)
    found: list[tuple[str, IsoFlop]] = []
    for name, group in study.groups:
        try:
            found.append((name, isoflop(rows_of(runs, group).drop(columns="log2_lr", errors="ignore"))))
        except Refused:  # most studies have no budgets
            continue
    said = []
    for name, each in found:
        a, b = (interval(e.value, e.low, e.high, ".3f") for e in (each.params_exponent, each.tokens_exponent))
        said.append(said_of(name, f"N* ∝ C^{a}, D* ∝ C^{b} (95 %; Chinchilla's Approach 2, {each.status})."))
    rows = [
        (name, f"{at.cost_flops:.3g}", "—" if at.params is None else
         f"{short(at.params.value)} [{short(at.params.low)}, {short(at.params.high)}]",
         "—" if at.tokens is None else short(at.tokens), number(at.loss_nats), at.message)
        for name, each in found for at in each.budgets
    ]  # fmt: skip
    head = ("runs of", "budget (FLOPs)", "best size [95 %]", "tokens", "loss (nats)", "note")
    warned = tuple(said_of(name, text) for name, each in found for text in each.warnings)
    return Section(title="Best size for a budget", sentences=tuple(said), tables=table(head, rows),
                   figures=("isoflops",), warnings=warned,
                   absent="it takes several sizes at equal compute, for two budgets or more")  # fmt: skip
