"""What a study and its table say, asked for by column and by group."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scalelab.laws.columns import NAMES, PARAMS
from scalelab.laws.group import GroupLaws
from scalelab.laws.law import Array
from scalelab.laws.study import Laws


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """A study and the table behind it, where there is one."""

    laws: Laws
    runs: pd.DataFrame | None

    def values(self, name: str) -> Array:
        """Distinct values of a column, ascending: from the table, else from the optima and domains of the fits."""
        if self.runs is not None and name in self.runs:
            column = pd.to_numeric(self.runs[name], errors="coerce").to_numpy(float)
            return np.unique(column[np.isfinite(column)])
        found: list[float] = []
        for group in self.laws.groups:
            if isinstance(fixed := group.key.get(name), float):
                found.append(fixed)
            found += [optimum.scale[name] for optimum in group.optima if name in optimum.scale]
            for fit in (*group.lr_fits.values(), *group.loss_fits.values()):
                by_column = {fit.columns.get(of, of): of for of in fit.domain}
                found += list(fit.domain[by_column[name]]) if name in by_column else []
        return np.unique(found)

    def words(self, name: str) -> list[str]:
        """Distinct texts of a column, those that say something."""
        return sorted({str(group.key[name]) for group in self.laws.groups if name in group.key} - {"unstated"})

    @property
    def count(self) -> str | None:
        """The column that counts parameters."""
        return next((name for name in PARAMS if len(self.values(name))), None)

    def of_groups(self, say: Callable[[GroupLaws], str | None]) -> str | None:
        """What is so of every group, said once where all agree; None where nothing is said of any."""
        said = [say(group) for group in self.laws.groups]
        if all(each == said[0] for each in said):
            return said[0]
        named = [(self._named(group), each) for group, each in zip(self.laws.groups, said, strict=True) if each]
        return " | ".join(f"{name}: {each}" for name, each in named) or None

    def _named(self, group: GroupLaws) -> str:
        differing = [name for name in group.key if len({str(g.key.get(name)) for g in self.laws.groups}) > 1]
        shown = [name for name in NAMES if name in differing] or differing
        values = (group.key[name] for name in shown)
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)

    def sum(self, of: Callable[[GroupLaws], int]) -> int:
        """A count over all groups."""
        return sum(of(group) for group in self.laws.groups)


def span(values: Array) -> str:
    """A range in words.

    >>> span(np.array([1e8, 2e8])), span(np.array([1e8]))
    ('1e+08 to 2e+08 (2 values)', '1e+08')
    """
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{values[0]:.4g} to {values[-1]:.4g} ({len(values)} values)"
