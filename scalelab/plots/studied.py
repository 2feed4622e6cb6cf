"""Every figure that a study can carry, in the order in which people look at them."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws import GroupLaws, Laws
from scalelab.laws.checked import checked
from scalelab.plots.front import front
from scalelab.plots.isoflops import isoflops
from scalelab.plots.losses import loss_law, loss_pairs, optimum_pairs
from scalelab.plots.named import rows_of, titles
from scalelab.plots.optima import optimum_against_scale
from scalelab.plots.trust import hold_outs, sensitivities
from scalelab.plots.valleys import valleys

MOST_GROUPS = 4  # that have figures of their own


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """A figure with the name of its file, its headline, and what is to be seen."""

    name: str
    title: str
    caption: str
    figure: Figure


def drawings(laws: Laws, table: pd.DataFrame, *, linked: bool = False) -> list[Drawing]:
    """The figures of a study; those that its runs cannot carry are left out. `linked`: see `linked`.

    Raises:
        Refused: on a table that `checked` refuses.
    """
    runs = checked(table)
    wanted: list[tuple[str, str, str, Callable[[], Figure]]] = [
        ("valleys", "Learning-rate valleys", "Points are runs, thick lines the valleys fitted near their bottoms, stars"
         " the optima, crosses runs that diverged.", lambda: valleys(laws, table, linked=linked)),
        ("optimum", "Optimum against scale", "Points are optima of single scales with 95 % intervals (two stages),"
         " arrows those of which only a bound is known; lines are the joint law, their band 95 % for a new scale's own"
         " optimum, thin beyond what was swept; dotted is theory, where the parametrization claims a transfer.",
         lambda: optimum_against_scale(laws, linked=linked)),
        ("front", "Loss against compute", "Points are runs; the black steps are the front: what no cheaper run beats.",
         lambda: front(laws, table, linked=linked)),
        ("hold_out", "The largest scale, left out", "Each way of choosing a setting, fitted to the smaller scales: its"
         " excess loss at those left out, by their own valleys. Filled points are means, hollow ones the worst.",
         lambda: hold_outs(laws)),
        ("sensitivity", "What the projection rests on", "Each choice that the data did not make, varied in turn.",
         lambda: sensitivities(laws)),
    ]  # fmt: skip
    for place, (group, name) in enumerate(zip(laws.groups[:MOST_GROUPS], titles(laws), strict=False)):
        of, suffix = (f" of {name}", f"_{place + 1}") if len(laws.groups) > 1 else ("", "")
        wanted += _own(group, runs, of, suffix)
    found = []
    for name, headline, caption, draw in wanted:
        try:
            found.append(Drawing(name=name, title=headline, caption=caption, figure=draw()))
        except Refused:  # a figure of something that this study does not have; the tables say why
            continue
    return found


def _own(
    group: GroupLaws, runs: pd.DataFrame, of: str, suffix: str
) -> list[tuple[str, str, str, Callable[[], Figure]]]:
    rows = rows_of(runs, group).drop(columns="log2_lr", errors="ignore")
    return [
        (f"loss_law{suffix}", f"Loss law{of}", "Left: the law that predicts sizes left out best. It is fitted to the"
         " best loss of each scale, or to the runs themselves. Right: what each law leaves over.",
         lambda: loss_law(group, runs)),
        (f"isoflops{suffix}", f"IsoFLOP valleys{of}", "The best loss of every size at equal compute, and the best size"
         " of every budget; arrows where the smallest or largest size tried is best.", lambda: isoflops(rows)),
        (f"optimum_pairs{suffix}", f"Exponents of the optimum{of}, in pairs", "Draws of the joint law: below the"
         " diagonal one exponent against another, above it their correlation.", lambda: optimum_pairs(group)),
        (f"loss_pairs{suffix}", f"Coefficients of the loss law{of}, in pairs", "Bootstrap draws: a ridge is a"
         " combination that these runs cannot tell apart.", lambda: loss_pairs(group)),
    ]  # fmt: skip
