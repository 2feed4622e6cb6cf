"""A search in figures: its front, by ours; history, slices, importances and parallel coordinates, by Optuna's own."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from scalelab.laws.draw.style import distinct, figure, label, log_axis, plain
from scalelab.plots.linked import TRIAL, anchors, points
from scalelab.search_views import ENOUGH, SearchView, quiet, well_only

if TYPE_CHECKING:
    from optuna import Study


def searched(found: SearchView, study: "Study") -> Iterator[tuple[str, Figure]]:
    """The figures of a search by name; those that its trials cannot carry are left out."""
    from optuna.visualization import matplotlib as optuna_plots

    if found.front:
        yield "front", front(found)
    if not found.well:
        return
    with quiet():
        well = well_only(found, study)
        yield "history", _of_optuna(optuna_plots.plot_optimization_history, well, found)
        yield "slice", _of_optuna(optuna_plots.plot_slice, well, found)
        if len(found.well) > 1:
            yield "parallel_coordinate", _of_optuna(optuna_plots.plot_parallel_coordinate, well, found)
        if len(found.well) >= ENOUGH:
            yield "importances", _of_optuna(optuna_plots.plot_param_importances, well, found)


def front(found: SearchView, *, linked: bool = False) -> Figure:
    """Loss against cost on a log axis, coloured by phase; the line is the front, crosses at the top are divergences."""
    drawn, (panel,) = figure(1, width=6.4, height=4.0)
    phases = list(dict.fromkeys(each.phase for each in found.well))
    for place, phase in enumerate(phases):
        colour, marker, _ = distinct(place)
        own = [each for each in found.well if each.phase == phase]
        at = [each.cost for each in own]
        points(panel, at, [each.loss for each in own],
               anchors(TRIAL, [each.number for each in own]) if linked else None, size=4.5, marker=marker,
               color=colour, alpha=0.7, label=plain(phase) or "trials")  # fmt: skip
    best = np.array([(each.cost, each.loss) for each in found.front])
    panel.step(*best.T, where="post", color="black", lw=1.2, label="front")
    lost = [each.cost for each in found.tried if each.outcome == "DIVERGED"]
    if lost:
        top = max(each.loss for each in found.well)
        panel.plot(lost, [top] * len(lost), "x", ms=5, color="0.4", label="diverged")
    log_axis(panel, "x", str(found.cost))
    panel.set(title=plain(found.name), ylabel=label(found.objectives[0]))
    panel.legend(fontsize=7, frameon=False)
    return drawn


def _of_optuna(draw: Callable[..., Any], well: "Study", found: SearchView) -> Figure:
    """One of Optuna's figures; it sets pyplot's style and keeps what it draws, which ends with the figure here."""
    with mpl.rc_context({"figure.constrained_layout.use": True}):  # or long names are cut off
        axes = draw(well, target_name=found.objectives[0])
        drawn: Figure = np.ravel(axes)[0].get_figure()
        pyplot.close(drawn)
    return drawn
