"""The first lines of a study's page: the numbers that a reader in a hurry looks for, and the laws in words."""

import math

from scalelab.confirm import SAME_LR
from scalelab.console import number, prefixed
from scalelab.plots import titles
from scalelab.report.found import Found
from scalelab.report.section import Section, Tile, table
from scalelab.report.verdict import in_words
from scalelab.status import State


def summary(found: Found) -> Section:
    """Tiles for what there is, and what the laws say in words."""
    tiles = [*_recipe(found), *_regret(found), *_held_out(found), *_checks(found), *_runs(found)]
    said: tuple[str, ...] = ()
    words = [] if found.study is None else [
        (name if place == 0 else "", about, sentence)
        for name, group in found.study.groups for place, (about, sentence) in enumerate(in_words(group))
    ]  # fmt: skip
    if found.fitted:
        said = (*said, f"The laws were fitted for this page: `scalelab fit {found.folder}` writes them, with tables.")
    elif found.unfitted and found.studies:
        said = (*said, f"No laws: {found.unfitted}.")
    return Section(
        title="In short", tiles=tuple(tiles), sentences=said, tables=table(("runs of", "", "what the laws say"), words)
    )


def _recipe(found: Found) -> list[Tile]:
    if (own := found.recipe) is None:
        return []
    said = f"[{own.lr.low:.3g}, {own.lr.high:.3g}], at width {own.target.get('width', 0):,}, from {own.lr.kind}"
    return [Tile(name="recommended base learning rate", value=f"{own.lr.value:.4g}", said=said)]


def _regret(found: Found) -> list[Tile]:
    if (own := found.confirmation) is None:
        return []
    error = "" if own.se_nats is None else f"; the gap to the best other is {own.gap_nats:+.4f} ± {own.se_nats:.4f}"
    if found.recipe is not None and not math.isclose(own.recipe_lr, found.recipe.lr.value, rel_tol=SAME_LR):
        error += "; of another recipe than the one here"
    return [Tile(name="regret, measured at the target", value=f"{own.regret_nats:.4f} nats",
                 said=f"{own.regret_percent:.2f} % of the loss{error}", bad=own.regret_percent > 1.0)]  # fmt: skip


def _held_out(found: Found) -> list[Tile]:
    if found.study is None:
        return []
    wanted = None if found.recipe is None else found.recipe.parametrization
    for name, group in zip(titles(found.study.laws), found.study.laws.groups, strict=True):
        if group.validation is None or (wanted is not None and group.key.get("parametrization") != wanted):
            continue
        joint = next((score for score in group.validation.scores if score.method == "joint"), None)
        if joint is not None:
            lost = f"{number(joint.mean_percent, '.2g')} %"
            return [Tile(name="the law's choice at the largest scale, left out, costs", value=lost,
                         said=f"of the loss there; {name}")]  # fmt: skip
    return []


def _checks(found: Found) -> list[Tile]:
    own = [each for each in found.checks if each.kind == "check"]
    if not own:
        return []
    said = ", ".join(f"{each.plain['parametrization']} {'passes' if each.plain['passed'] else 'fails'}" for each in own)
    of_recipe = [
        each for each in own if found.recipe is None or each.plain["parametrization"] == found.recipe.parametrization
    ]
    bad = bool(of_recipe) and found.recipe is not None and not all(each.plain["passed"] for each in of_recipe)
    return [Tile(name="coordinate check", value=said, said="do sizes stay as the network grows?", bad=bad)]


def _runs(found: Found) -> list[Tile]:
    if not found.studies:
        return []
    runs = sum(each.runs for each in found.studies)
    ended = sum(each.counts.get(state, 0) for each in found.studies for state in (State.OK, State.DIVERGED))
    flops = sum(each.flops for each in found.studies)
    diverged = sum(each.counts.get(State.DIVERGED, 0) for each in found.studies)
    lost = f", {diverged} diverged" if diverged else ""
    left = f" of {runs:,}" if ended != runs else ""
    return [Tile(name="runs", value=f"{ended:,}{left}", said=f"{prefixed(flops)}FLOPs{lost}", bad=ended != runs)]
