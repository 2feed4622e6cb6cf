"""Sections of a study's page on what is handed over: the recipe, and the runs that would make it safer."""

from scalelab.console import interval, number
from scalelab.recipe import Value
from scalelab.report.found import Found
from scalelab.report.section import Section, table

ORIGINS = {"sweep": "laws fitted to the runs here", "published": "published laws: no run of this network is behind it"}


def recipe(found: Found) -> Section:
    """Every value with its interval and source, what is expected lost, the parameter groups, the warnings."""
    absent = f"scalelab recommend --laws {found.folder / 'laws' / 'laws.json'} --target width=…"
    if (own := found.recipe) is None:
        return Section(title="The recipe", absent=absent)
    size = ", ".join(f"{name.replace('_', ' ')} {own.target[name]:,}" for name in ("width", "depth", "tokens", "steps")
                     if name in own.target)  # fmt: skip
    said = (
        f"{own.parametrization}, {own.optimizer}: {size}, {own.params['non_embedding']:,} non-embedding parameters,"
        f" {own.cost_flops:.3g} training FLOPs. It rests on {ORIGINS.get(own.origin, own.origin)}.",
        f"Base learning rate {interval(own.lr.value, own.lr.low, own.lr.high)}, from {own.lr.kind}: {own.why}.",
    )
    alike: dict[tuple[str, str], list[Value]] = {}  # what is said alike of many values is said once
    for value in own.values:
        alike.setdefault((_source(value), value.rests_on), []).append(value)
    values = [
        ("\n".join(value.name for value in those), "\n".join(map(_value, those)), source, rests_on)
        for (source, rests_on), those in alike.items()
    ]  # fmt: skip
    choices = [
        ("→" if choice == own.lr else "", choice.kind, interval(choice.value, choice.low, choice.high), choice.law,
         choice.rests_on)
        for choice in own.choices
    ]  # fmt: skip
    regrets = [
        (regret.setting if regret.setting == "recommended" else f"{regret.setting} × {regret.factor:g}",
         f"{regret.nats:.4f}", f"{regret.high:.4f}", number(regret.loss_percent, ".2g"),
         "—" if regret.compute_percent is None else f"{regret.compute_percent:,.0f}")
        for regret in own.regrets
    ]  # fmt: skip
    several = len({group.family for group in own.groups}) > 1
    groups = [
        (group.role, group.family if several else "", "\n".join(group.patterns), f"{group.init_std:.4g}",
         f"{group.multiplier:.4g}", f"{group.lr:.4g}", f"[{group.lr_low:.3g}, {group.lr_high:.3g}]",
         f"{group.weight_decay:.4g}", number(group.eps, ".3g"))
        for group in own.groups
    ]  # fmt: skip
    sites = [(name.replace("_", " "), f"{value:.6g}") for name, value in own.sites.items()]
    return Section(
        title="The recipe", sentences=said, warnings=own.warnings,
        tables=(
            *table(("value of", "value [95 %]", "source", "rests on"), values, "Values"),
            *table(("", "way", "learning rate [95 %]", "law", "rests on"), choices, "Ways to the learning rate",
                   folded=bool(values)),
            *table(("setting", "expected loss (nats)", "95 % are below", "% of the loss", "% more compute"), regrets,
                   "What a setting is expected to lose beside the best one, and the compute that would make up for it"),
            *table(("role", "family", "parameters", "init std", "multiplier", "lr", "lr 95 %", "weight decay", "eps"),
                   groups, "Parameter groups", code=("parameters",)),
            *table(("factor on", "value"), sites,
                   "Factors of the forward pass"),
        ),
        absent=absent,
    )  # fmt: skip


def _value(value: Value) -> str:
    if isinstance(value.value, float | int) and not isinstance(value.value, bool):
        plain = value.low is None and value.high is None
        found = number(float(value.value), ",.6g") if plain else interval(float(value.value), value.low, value.high)
        return f"{found} {value.unit}".strip()
    return "—" if value.value is None else str(value.value)


def _source(value: Value) -> str:
    if value.theory_weight is None:
        return value.source
    return f"theory {100 * value.theory_weight:.0f} %, law {100 * (1 - value.theory_weight):.0f} %"


def next_runs(found: Found) -> Section:
    """What to run next, by what it would save."""
    own = () if found.recipe is None else found.recipe.confirm
    rows = [
        (" ".join(run.overrides), run.why, f"{run.cost_flops:.3g}", f"{run.risk_nats:.4f}",
         f"{run.risk_after_nats:.4f}")
        for run in own
    ]  # fmt: skip
    said = ("The cheapest runs that would make the recipe safer, best first.",) if own else ()
    return Section(
        title="Next runs", sentences=said,
        tables=table(("train", "why", "FLOPs", "expected loss now (nats)", "after it"), rows, code=("train",)),
        absent="scalelab fit … --target tokens=… --propose names the runs that would narrow a projection",
    )  # fmt: skip
