"""What people see on the console: laws, recipes, confirmations. Tables: `show_tables`, checks: `show_checks`."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from scalelab.confirm import Confirmation
from scalelab.console import grid, say
from scalelab.laws import GroupLaws, Laws, drift
from scalelab.plots import title
from scalelab.recipe import Recipe

__all__ = ["confirmation", "grid", "interval", "laws", "recipe", "say"]


def interval(value: float | None, low: float | None, high: float | None, form: str = ".4g") -> str:
    """`value [low, high]`, or what bounds there are: `≤ high`, `≥ low`."""
    if value is not None and low is not None and high is not None:
        return f"{value:{form}} [{low:{form}}, {high:{form}}]"
    if low is not None and high is not None:
        return f"in [{low:{form}}, {high:{form}}]"
    if high is not None:
        return f"≤ {high:{form}}"
    return "—" if low is None else f"≥ {low:{form}}"


def laws(found: Laws, console: Console) -> None:
    """Optima and exponents of every group, with what was not fitted and why."""
    for group in found.groups:
        fixed = {name: values for name, values in _scales(group).items() if len(values) == 1}
        batch = {"batch_tokens": {float(group.key["batch_tokens"])}} if "batch_tokens" in group.key else {}
        at = ", ".join(f"{name} {next(iter(values)):,.0f}" for name, values in {**fixed, **batch}.items())
        say(console, f"{title(group)}{f' at {at}' if at else ''}", "bold")
        say(
            console,
            f"{group.n_runs} runs, {group.n_diverged} diverged; noise {group.noise.sd_nats:.4f} nats"
            f" ({group.noise.source}, {group.noise.dof} degrees of freedom)",
        )
        console.print(_optima(group, [name for name in _scales(group) if name not in fixed]))
        for name, fit in group.lr_fits.items():
            exponents = ", ".join(
                f"{scale} {interval(e.value, e.low, e.high, '+.3f')}"
                for scale, e in fit.estimates.items()
                if scale in fit.reference and name != "constant"
            )
            held = fit.hold_out
            tested = "" if held is None else (
                f"; largest held out: {held.error_octaves:+.2f} octaves off, {held.excess_nats:.4f} nats lost"
            )  # fmt: skip
            say(console, f"{name}: {exponents or 'the optimum does not move'}{tested}")
        if "power" in group.lr_fits:
            say(console, group.lr_fits["power"].status, "dim")
        if moved := drift(group):
            say(
                console,
                f"drift from {moved.scale} {moved.smallest:g} to {moved.largest:g}: {moved.octaves:+.2f} ±"
                f" {moved.sd_octaves:.2f} octaves; at the largest, the smallest's optimum would lose"
                f" {moved.copy_cost_nats:.4f} nats",
                "bold",
            )
        for name, reason in group.not_fitted.items():
            say(console, f"{name}: not fitted: {reason}", "dim")
        say(console, "")


def _scales(group: GroupLaws) -> dict[str, set[float]]:
    return {name: {optimum.scale[name] for optimum in group.optima} for name in group.optima[0].scale}


def _optima(group: GroupLaws, varying: Sequence[str]) -> Table:
    rows = []
    for optimum in group.optima:
        rows.append(
            (
                *(f"{optimum.scale[name]:,.0f}" for name in varying),
                interval(optimum.lr, optimum.lr_low, optimum.lr_high, ".3g"),
                "—" if optimum.loss_nats is None else f"{optimum.loss_nats:.4f}",
                f"{optimum.n_runs}{f' ({optimum.n_diverged}×)' if optimum.n_diverged else ''}", optimum.status.lower(),
            )
        )  # fmt: skip
    scales = [{"params_non_embedding": "N non-emb."}.get(name, name) for name in varying]
    return grid("", (*scales, "optimal lr [95 %]", "loss", "runs", "status"), rows, left=0)


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
    if found.expected_regret_nats is not None and found.regret_factor_2_nats is not None:
        half, double = found.regret_factor_2_nats
        say(
            console,
            f"expected regret {found.expected_regret_nats:.4f} nats; at half this lr {half:.4f}, at double {double:.4f}"
            " (by the largest proxy's valley)",
        )
    rows = [
        (group.role, "\n".join(group.patterns), f"{group.init_std:.4g}", f"{group.multiplier:.4g}", f"{group.lr:.4g}",
         f"{group.lr_low:.3g}…{group.lr_high:.3g}", f"{group.weight_decay:.4g}",
         "—" if group.eps is None else f"{group.eps:.3g}")
        for group in found.groups
    ]  # fmt: skip
    console.print(grid("", ("role", "parameters", "init std", "mult.", "lr", "interval", "wd", "eps"), rows, left=2))
    say(console, ", ".join(f"{name} {value:.6g}" for name, value in found.sites.items()))
    for warning in found.warnings:
        say(console, f"warning: {warning}", "yellow")


def confirmation(found: Confirmation, console: Console) -> None:
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
            f"tuning on the proxies cost {found.tuning_flops:.2e} FLOPs, {found.compute_share:.1%} of the same sweep at"
            f" the target ({found.replaced_flops:.2e})",
        )
