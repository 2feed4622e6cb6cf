"""Means along what was swept, a line a case: hyperparameters searched one by one, or a setting against scale."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws.draw.style import distinct, log_axis, panels, plain

ACROSS = 4


def lines(tables: Mapping[str, pd.DataFrame], *, x: str, y: str) -> Figure:
    """A panel a table: its index along a logarithmic axis, a line a column. Gaps and infinite values are left out.

    Args:
        tables: title → table, its index positive numbers. A column of one name has the same colour in every panel.
        x: what the index is: `width`, `lr`, or words for what has no name of ours.
        y: what the values are, in words with their unit.

    Raises:
        Refused: where there is nothing to draw, or an index that has no logarithm.
    """
    if not tables or any(table.empty for table in tables.values()):
        raise Refused("nothing to draw: give tables with rows, a panel each")
    if any((table.index.to_numpy(float) <= 0).any() for table in tables.values()):
        raise Refused(f"{x} is drawn on a logarithmic axis: accepted are positive numbers")
    names = list(dict.fromkeys(name for table in tables.values() for name in table.columns))
    drawn, axes = panels(len(tables), columns=ACROSS, width=4.8 if len(tables) == 1 else 3.0, height=2.9)
    for place, (axis, (title, table)) in enumerate(zip(axes, tables.items(), strict=True)):
        for name in table.columns:
            values = table[name].replace([np.inf, -np.inf], np.nan).dropna().sort_index()
            colour, marker, dash = distinct(names.index(name))
            axis.plot(values.index.to_numpy(float), values.to_numpy(float), ls=dash, marker=marker, ms=4, lw=1.4,
                      color=colour, label=plain(str(name)))  # fmt: skip
        log_axis(axis, "x", x)
        axis.set_title(plain(title), fontsize=9)
        axis.set_ylabel(y if place % ACROSS == 0 else "")
    axes[0].legend(fontsize=8)
    return drawn
