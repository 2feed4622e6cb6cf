"""Loss against cost: every run that ended well, and the front of those that no cheaper run beats."""

import math

import pandas as pd
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws import Laws
from scalelab.laws.checked import checked
from scalelab.laws.draw.style import distinct, figure, label, log_axis, plain
from scalelab.laws.front import on_front
from scalelab.plots.linked import RUN, anchors, points
from scalelab.plots.named import rows_of, titles

MOST_POINTS = 2000  # of a group; of more, those off the front are thinned evenly
HEADROOM = 1.6  # of the rise that three quarters of the runs stay under


def front(laws: Laws, table: pd.DataFrame, *, linked: bool = False) -> Figure:
    """Loss against training FLOPs, a kind a group; the step is the front of all groups together.

    Raises:
        Refused: where no run states its cost, or on a table that `checked` refuses.
    """
    runs = checked(table)
    if "cost_flops" not in runs or runs["cost_flops"].nunique() < 2:
        raise Refused("the runs state no cost_flops, or one only: there is no front of loss against cost")
    ok = runs[(runs["outcome"] == "OK") & (runs["cost_flops"] > 0)]
    drawn, (axis,) = figure(1, width=7.2, height=4.0)
    thinned = 0
    for place, (group, name) in enumerate(zip(laws.groups, titles(laws), strict=True)):
        own = rows_of(ok, group)
        shown = thin(own)
        thinned += len(own) - len(shown)
        colour, marker, _ = distinct(place)
        points(axis, shown["cost_flops"], shown["loss_nats"], anchors(RUN, shown.index) if linked else None, size=4,
               marker=marker, color=colour, alpha=0.5, label=plain(name))  # fmt: skip
    best = on_front(ok)
    last = float(ok["cost_flops"].max())
    axis.step(
        [*best["cost_flops"], last], [*best["loss_nats"], float(best["loss_nats"].iloc[-1])], where="post",
        color="black", lw=1.3, label="front",
    )  # fmt: skip
    low = float(ok["loss_nats"].min())
    rise = max(float(ok["loss_nats"].quantile(0.75)) - low, float(best["loss_nats"].max()) - low, 0.01)
    above = int((ok["loss_nats"] > low + HEADROOM * rise).sum())
    axis.set_ylim(low - 0.06 * rise, low + HEADROOM * rise)
    log_axis(axis, "x", "cost_flops")
    axis.set_ylabel(label("loss_nats"))
    left_out = [f"{above} runs lie above"] * (above > 0) + [f"{thinned} runs are not drawn"] * (thinned > 0)
    axis.set_title("; ".join(left_out), fontsize=8)
    axis.legend(fontsize=8)
    return drawn


def thin(rows: pd.DataFrame) -> pd.DataFrame:
    """At most about `MOST_POINTS` of the rows: the front, and of the others every so many."""
    if len(rows) <= MOST_POINTS:
        return rows
    kept = set(on_front(rows).index) | set(rows.index[:: math.ceil(len(rows) / MOST_POINTS)])
    return rows[rows.index.isin(kept)]
