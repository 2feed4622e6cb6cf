"""Section of a study's page on the proof: what the recipe lost at its target, measured."""

import math

from scalelab import plots
from scalelab.confirm import SAME_LR, Confirmation
from scalelab.console import interval, number
from scalelab.plots.linked import RESULT, anchors
from scalelab.recipe import Recipe
from scalelab.report.found import Found
from scalelab.report.inline import inline
from scalelab.report.section import Picture, Section, table


def proof(found: Found) -> Section:
    """Regret, the losses around the recipe, what tuning cost."""
    own, recipe = found.confirmation, found.folder / "recipe.yaml"
    absent = f"train around the recipe at its target, then: scalelab confirm {recipe} RUNS -o {found.folder}"
    if own is None:
        return Section(title="The proof, at the target", absent=absent)
    caption = "Losses at the target around the recipe, which stands upright in colour."
    body = inline(plots.target(own, linked=True), "target", f"The valley at the target. {caption}")
    rows = [
        (f"{result.lr:.4g}", "diverged" if result.loss_nats is None else f"{result.loss_nats:.4f}",
         number(result.sd_nats, ".4f"), f"{result.seeds}",
         "recipe" if math.isclose(result.lr, own.recipe_lr)
         else "best other" if math.isclose(result.lr, own.rival_lr) else "")
        for result in own.results
    ]  # fmt: skip
    return Section(
        title="The proof, at the target", sentences=tuple(_said(own)), warnings=tuple(_other(own, found.recipe)),
        pictures=(Picture(title="The valley at the target", caption=caption, body=body),),
        tables=table(("learning rate", "loss (nats)", "seed sd", "seeds", "which"), rows,
                     anchors=anchors(RESULT, range(len(rows)))),
        absent=absent,
    )  # fmt: skip


def _other(own: Confirmation, recipe: Recipe | None) -> list[str]:
    """That a confirmation is not of the recipe that is here."""
    if recipe is None or math.isclose(own.recipe_lr, recipe.lr.value, rel_tol=SAME_LR):
        return []
    return [
        f"this is the proof of another recipe: its learning rate was {own.recipe_lr:.4g}, that of the recipe here is"
        f" {recipe.lr.value:.4g}; train at the target again"
    ]


def _said(own: Confirmation) -> list[str]:
    error = "" if own.se_nats is None else f" ± {own.se_nats:.4f} (standard error over paired seeds)"
    said = [
        f"Regret of the recipe: {own.regret_nats:.4f} nats, {own.regret_percent:.2f} % of the loss.",
        f"Its loss minus that of the best other learning rate tried is {own.gap_nats:.4f}{error} nats.",
    ]
    if own.valley_regret_nats is not None:
        at = interval(own.valley_lr, own.valley_lr_low, own.valley_lr_high, ".3g")
        said.append(
            f"A valley fitted to these runs has its optimum at {at} and puts the regret at"
            f" {own.valley_regret_nats:.4f} nats."
        )
    if own.seed_sd_nats is not None:
        said.append(f"One run's seed noise there: sd {own.seed_sd_nats:.4f} nats.")
    if own.compute_share is not None:
        said.append(
            f"Tuning on the proxies took {number(own.tuning_flops, '.3g')} FLOPs, as much as {own.target_runs:.2g} runs"
            f" of the target, {100 * own.compute_share:.1f} % of the same sweep there"
            f" ({number(own.replaced_flops, '.3g')})."
        )
    return said
