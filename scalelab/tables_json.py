"""Tables of rules, their list, and two against each other, as JSON types; a cell is the text that the console shows."""

from typing import Any

from scalelab.compare import COLUMNS, Difference, trained_by
from scalelab.optimizers import optimizer_kind
from scalelab.parametrizations import TABLES
from scalelab.parametrizations.table import Family, Parametrization, Role
from scalelab.scale import Cell


def listing(*, optimizer: str | None = None) -> dict[str, Any]:
    """Every table's head; with an optimizer those that have rules for its matrices."""
    family = None if optimizer is None else optimizer_kind(optimizer).family
    return {
        "tables": [_head(each) for each in TABLES.values() if family is None or (Role.HIDDEN, family) in each.rules]
    }


def table(found: Parametrization, *, optimizer: str | None = None) -> dict[str, Any]:
    """A table in full, a row a role and family.

    Raises:
        Refused: the table has no rule for the optimizer's matrices.
    """
    needed = None if optimizer is None else trained_by(optimizer)
    if optimizer is not None:
        found.rule(Role.HIDDEN, optimizer_kind(optimizer).family)
    rules = [
        {"role": role.value, "family": family.value, **{name: _cell(getattr(rule, name)) for name in COLUMNS}}
        for (role, family), rule in found.rules.items()
        if needed is None or (role, family) in needed
    ]
    sites = {site.value: str(cell) for site, cell in found.sites.items()}
    return {**_head(found), "rules": rules, "sites": sites, "one_minus_beta": str(found.one_minus_beta)}


def difference(found: Difference) -> dict[str, Any]:
    """Every cell that both tables cover in the form without multipliers, and whether they train alike."""
    cells = [
        {"role": cell.role.value, "family": cell.family.value, "column": cell.column, "a": _cell(cell.a),
         "b": _cell(cell.b), "equal": cell.equal, "equal_on_square": cell.equal_on_square}
        for cell in found.cells
    ]  # fmt: skip
    sites = [{"name": each.name, "a": str(each.a), "b": str(each.b), "equal": each.equal} for each in found.sites]
    alone = {
        name: [{"role": role.value, "family": family.value} for role, family in keys]
        for name, keys in (("only_a", found.only_a), ("only_b", found.only_b))
    }
    return {
        "a": found.a, "b": found.b, "equal": found.equal, "verdict": found.verdict, "cells": cells, "sites": sites,
        **alone, "notes": list(found.notes),
    }  # fmt: skip


def _head(found: Parametrization) -> dict[str, Any]:
    families = {family for _, family in found.rules}
    return {
        "name": found.name, "title": found.title, "source": found.source, "transfers": list(found.transfers),
        "families": [family.value for family in Family if family in families], "unit_scaled": found.unit_scaled,
        "notes": list(found.notes),
    }  # fmt: skip


def _cell(cell: Cell | None) -> str | None:
    return None if cell is None else str(cell)
