"""What people see on the console: recipes and confirmations. Laws: `show_laws`; tables and checks: `show_tables`."""

import math
from typing import TYPE_CHECKING

from rich.console import Console

from scalelab.console import grid, interval, say
from scalelab.recipe import Recipe

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
            f"tuning on the proxies cost {found.tuning_flops:.2e} FLOPs, {found.compute_share:.1%} of the same sweep at"
            f" the target ({found.replaced_flops:.2e})",
        )
