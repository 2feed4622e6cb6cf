"""What people see on the console: recipes and confirmations. Laws: `show_laws`; tables and checks: `show_tables`."""

import math
from typing import TYPE_CHECKING

from rich.console import Console

from scalelab.console import grid, interval, number, say
from scalelab.recipe import Recipe, Value

if TYPE_CHECKING:
    from scalelab.confirm import Confirmation

__all__ = ["confirmation", "grid", "interval", "recipe", "say"]


def recipe(found: Recipe, console: Console) -> None:
    """A recipe: the learning rate with its reasons, every group's values, warnings last."""
    target = found.target
    say(
        console,
        f"Recipe: {found.parametrization}, {found.optimizer}, width {target['width']}, depth {target['depth']},"
        f" {found.params['non_embedding']:,} non-embedding parameters, {target['tokens']:,} tokens in"
        f" {target['steps']:,} steps, {found.cost_flops:.2e} FLOPs",
        "bold",
    )
    say(
        console,
        f"base learning rate {interval(found.lr.value, found.lr.low, found.lr.high)}: {found.lr.kind}; {found.why}",
    )
    for choice in found.choices:
        mark = "→" if choice == found.lr else " "
        say(console, f"{mark} {choice.kind:8} {interval(choice.value, choice.low, choice.high)}  {choice.law}")
    _values(found, console)
    _batches(found, console)
    _regrets(found, console)
    _next_runs(found, console)
    rows = [
        (group.role, "\n".join(group.patterns), f"{group.init_std:.4g}", f"{group.multiplier:.4g}", f"{group.lr:.4g}",
         f"{number(group.lr_low, '.3g')}…{number(group.lr_high, '.3g')}", f"{group.weight_decay:.4g}",
         "—" if group.eps is None else f"{group.eps:.3g}")
        for group in found.groups
    ]  # fmt: skip
    console.print(grid("", ("role", "parameters", "init std", "mult.", "lr", "interval", "wd", "eps"), rows, left=2))
    say(console, ", ".join(f"{name} {value:.6g}" for name, value in found.sites.items()))
    for warning in found.warnings:
        say(console, f"warning: {warning}", "yellow")


def _values(found: Recipe, console: Console) -> None:
    """Every value with its source; what all proxies had in one line."""
    rows = [
        (value.name, _worded(value),
         "—" if value.low is None else f"{number(value.low, '.3g')}…{number(value.high, '.3g')}", _source(value),
         "" if value.name == "lr" and found.origin == "sweep" else value.rests_on)
        for value in found.values if not _as_the_proxies(value)
    ]  # fmt: skip
    if rows:
        console.print(grid("", ("value", "", "interval", "from", "rests on"), rows, left=5))
    kept = [f"{value.name} {_worded(value)}" for value in found.values if _as_the_proxies(value)]
    if kept:
        say(console, f"as every proxy had it, not swept: {', '.join(kept)}")


def _as_the_proxies(value: Value) -> bool:
    return value.source == "proxies" and value.name not in ("batch_tokens", "weight_decay")


def _worded(value: Value) -> str:
    shown = f"{value.value:,.0f}" if value.unit in ("tokens", "steps") and isinstance(value.value, float) else ""
    shown = shown or (number(value.value) if isinstance(value.value, float) else str(value.value))
    return f"{shown} {value.unit}".rstrip()


def _source(value: Value) -> str:
    if value.source == "both" and value.theory_weight is not None:
        return f"theory {value.theory_weight:.0%}, law {1 - value.theory_weight:.0%}"
    return value.source


def _percent(value: float | None) -> str:
    return number(value, ".2g" if value is None or value < 99.5 else ",.0f")


def _batches(found: Recipe, console: Console) -> None:
    """Batches up to the critical one and what they cost, where the batch was not a matter of course."""
    table = found.evidence.get("batches", ())
    if not table or not any(
        value.name == "batch_tokens" and value.source in ("law", "published", "asked") for value in found.values
    ):
        return
    rows = [
        (f"{row['batch_tokens']:,}", f"{row['steps']:,}", _percent(row["excess_loss_percent"]),
         _percent(row["excess_tokens_percent"]), "recipe" if row["chosen"] else "")
        for row in table
    ]  # fmt: skip
    console.print(grid("", ("batch", "steps", "% of loss lost", "% more tokens than small batches", ""), rows, left=0))


def _regrets(found: Recipe, console: Console) -> None:
    """What the setting is expected to lose, and those around it."""
    rows = [
        ("recommended" if lost.factor == 1 else f"{lost.setting} ×{lost.factor:g}", f"{lost.nats:.4f}",
         number(lost.high, ".4f"), _percent(lost.loss_percent), _percent(lost.compute_percent))
        for lost in found.regrets
    ]  # fmt: skip
    if rows:
        columns = ("expected regret", "nats", "95 % below", "% of loss", "% of compute")
        console.print(grid("", columns, rows))
        if found.regrets[0].compute_percent is None:
            none = "for published laws it is not stated" if found.origin == "published" else (
                "no law of the loss says what more compute would give"
            )  # fmt: skip
            say(console, f"no % of compute: {none}", "dim")
    else:
        say(console, "no regret is stated: see the warnings")


def _next_runs(found: Recipe, console: Console) -> None:
    """The cheapest runs that would reduce the risk, each after those before it."""
    rows = [
        (f"{place}", f"{number(run.risk_nats, '.4f')} → {number(run.risk_after_nats, '.4f')}", f"{run.cost_flops:.2e}",
         run.why)
        for place, run in enumerate(found.confirm, start=1)
    ]  # fmt: skip
    if rows:
        console.print(
            grid(
                "", ("next", "risk in lr, nats", "FLOPs", "runs of `scalelab train --recipe … --next N`"), rows, left=4
            )
        )


def confirmation(found: "Confirmation", console: Console) -> None:
    """The valley at the target, the regret with its seed noise, the compute."""
    rows = [
        (f"{result.lr:.5g}", "diverged" if result.loss_nats is None else f"{result.loss_nats:.4f}",
         "—" if result.sd_nats is None else f"{result.sd_nats:.4f}", str(result.seeds),
         "recipe" if math.isclose(result.lr, found.recipe_lr)
         else "best other" if math.isclose(result.lr, found.rival_lr) else "")
        for result in found.results
    ]  # fmt: skip
    console.print(grid("At the target", ("lr", "loss", "seed sd", "seeds", ""), rows, left=0))
    error = "" if found.se_nats is None else f" ± {found.se_nats:.4f}"
    say(
        console,
        f"regret at the target: {found.regret_nats:.4f} nats, {found.regret_percent:.2f} % of the loss (the recipe's"
        f" loss minus that of the best other lr tried: {found.gap_nats:+.4f}{error}, standard error over paired seeds)",
        "bold",
    )
    if found.valley_regret_nats is not None:
        at = interval(found.valley_lr, found.valley_lr_low, found.valley_lr_high, ".3g")
        say(console, f"by a valley fitted there: optimum {at}, regret {found.valley_regret_nats:.4f} nats")
    if found.seed_sd_nats is not None:
        say(console, f"seed noise there: sd {found.seed_sd_nats:.4f} nats a run")
    if found.compute_share is not None:
        say(
            console,
            f"tuning on the proxies cost {found.tuning_flops:.2e} FLOPs, as much as {found.target_runs:.2g} runs of the"
            f" target, {found.compute_share:.1%} of the same sweep there ({found.replaced_flops:.2e})",
        )
