"""A resolved target and what is said of it → a recipe: every number of it is the spec's, resolved by the table."""

from collections.abc import Mapping, Sequence
from typing import Any

from scalelab.overrides import overrides_of
from scalelab.recipe import LrChoice, NextRun, Recipe, Regret, Value
from scalelab.recipe import resolved as fields_of
from scalelab.spec import RunSpec, as_plain


def assembled(
    resolved: RunSpec,
    chosen: LrChoice,
    *,
    origin: str,
    why: str,
    choices: Sequence[LrChoice],
    values: Sequence[Value],
    regrets: Sequence[Regret],
    confirm: Sequence[NextRun],
    evidence: Mapping[str, Any],
    warnings: Sequence[str],
) -> Recipe:
    """The recipe of a spec whose base learning rate is `chosen.value`; the groups' intervals are in its proportion."""
    return Recipe(
        **fields_of(resolved, chosen),
        origin=origin,
        lr=chosen,
        why=why,
        choices=tuple(choices),
        values=tuple(values),
        regrets=tuple(regrets),
        confirm=tuple(confirm),
        evidence=evidence,
        warnings=tuple(warnings),
        spec=as_plain(resolved),
        overrides=tuple(overrides_of(resolved)),
    )
