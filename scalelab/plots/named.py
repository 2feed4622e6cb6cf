"""What groups and cells are called, and which rows and scales are theirs."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scalelab.laws import GroupLaws, Laws
from scalelab.laws.columns import NAMES, SCALES

SETTINGS = ("batch_tokens", "weight_decay")
INDEPENDENT = 0.1  # share of its spread that a scale needs beyond what the others explain


def title(group: GroupLaws) -> str:
    """A group by what tells it apart: its parametrization and optimizer."""
    names = [str(group.key[name]) for name in NAMES[:2] if group.key.get(name, "unstated") != "unstated"]
    return ", ".join(names) or "runs"


def titles(laws: Laws) -> list[str]:
    """Every group by its title, and where two share one, by what else differs."""
    found = [title(group) for group in laws.groups]
    shared = {name for name, count in Counter(found).items() if count > 1}
    differing = [
        name for name in dict.fromkeys(key for group in laws.groups for key in group.key)
        if name not in NAMES[:2] and len({str(group.key.get(name)) for group in laws.groups}) > 1
    ]  # fmt: skip
    return [
        ", ".join([name, *(_said(group, key) for key in differing)]) if name in shared else name
        for name, group in zip(found, laws.groups, strict=True)
    ]


def _said(group: GroupLaws, key: str) -> str:
    value = group.key.get(key)
    return f"{key} {value:g}" if isinstance(value, float) else str(value)


def rows_of(runs: pd.DataFrame, group: GroupLaws) -> pd.DataFrame:
    """The checked runs of a group."""
    kept = np.logical_and.reduce([runs[name] == value for name, value in group.key.items() if name in runs])
    return runs[np.broadcast_to(kept, len(runs))]


def cells_of(group: GroupLaws) -> list[dict[str, float]]:
    """The scales of a group, those of the joint law where there is one, batches and weight decays told apart."""
    joint = group.joint
    cells = [o.scale for o in group.optima] or ([] if joint is None else [cell.scale for cell in joint.cells])
    if joint is None:
        return cells
    spoken = {*joint.reference, *SETTINGS}
    return [{name: value for name, value in cell.items() if name in spoken} for cell in cells]


def independent(cells: Sequence[Mapping[str, float]]) -> list[str]:
    """The scales that varied, less those that others imply as power laws (parameters by width, tokens by parameters).

    >>> independent([{"width": w, "params": 48 * w**2, "tokens": t} for w in (64, 128) for t in (1e6, 1e7)])
    ['width', 'tokens']
    """
    order = [name for name in (*SCALES, *SETTINGS) if cells and name in cells[0]]
    chosen: list[str] = []
    basis = np.ones((len(cells), 1))
    for name in order:
        column = np.log([max(cell[name], 1e-30) for cell in cells])
        left = column - basis @ np.linalg.lstsq(basis, column, rcond=None)[0]
        if float(np.linalg.norm(left)) > max(INDEPENDENT * float(np.linalg.norm(column - column.mean())), 1e-9):
            chosen.append(name)
            basis = np.column_stack([basis, column])
    return chosen
