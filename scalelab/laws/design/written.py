"""A design as files: studies for `scalelab train -m +sweep=NAME`, or a table for a trainer of one's own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import PARAMS
from scalelab.laws.design.proposed import NextRuns, Proposed, worded

GROUPS = ("model", "optimizer", "data")  # whole files of conf/, chosen in a study's defaults
KEYS = ("width", "depth", "experts", "tokens")  # scales that a configuration states
Stated = Callable[[Mapping[str, float]], Sequence[str]]


def as_csv(found: NextRuns) -> str:
    """Every run as a row: which proposal it belongs to, its scale, settings and seed, FLOPs, and why."""
    rows = [
        {
            "proposal": k,
            **{column: _number(value) for column, value in row.items()},
            "cost_flops": _number(batch.cost_flops / batch.n_runs),
            "why": batch.why,
        }
        for k, batch in enumerate(found.batches, 1)
        for row in batch.rows()
    ]
    return str(pd.DataFrame(rows).to_csv(index=False))


def as_studies(found: NextRuns, *, name: str = "next", stated: Stated | None = None) -> dict[str, str]:
    """One study a proposal, NAME_1, NAME_2, …, each the YAML text of a file of sweeps/.

    A study's runs are a product of lists, and scales differ in theirs, so each has a file of its own.

    Args:
        found: the design.
        name: of the studies; their runs are kept together under it.
        stated: scale → the overrides (`KEY=VALUE`) of a run there, e.g. those of the proxies' family; left out, the
            study states only what it sweeps, and the rest is that of conf/train.yaml.

    Raises:
        Refused: where a scale is a count of parameters, which no configuration states.
    """
    return {
        f"{name}_{k}": _study(found, batch, name, k, stated(batch.scale) if stated else ())
        for k, batch in enumerate(found.batches, 1)
    }


def _study(found: NextRuns, batch: Proposed, name: str, place: int, stated: Sequence[str]) -> str:
    if "width" not in batch.scale and any(count in batch.scale for count in PARAMS):
        raise Refused(
            f"these laws are in {', '.join(batch.scale)}: a study states width and depth; take the runs as CSV"
        )
    swept = {column: values for column, values in batch.settings.items() if column != "weight_decay"}
    if batch.weight_decays:
        swept["optimizer.weight_decay"] = batch.weight_decays
    given = dict(override.split("=", 1) for override in stated)
    given |= {key: _number(batch.scale[key]) for key in KEYS if key in batch.scale}
    groups = [f"  - override /{key}: {given.pop(key)}" for key in GROUPS if key in given]
    fixed = {key: value for key, value in given.items() if key not in (*swept, "seed", "study")}
    tuned = ", ".join(key for key, values in swept.items() if len(values) > 1) or "nothing"
    lines = [
        "# @package _global_",
        "#",
        f"# Question: what is the best {found.of} at {worded(found.target)}? Part {place} of {len(found.batches)}.",
        f"# Why here: {batch.why}.",
        f"# Tuned: {tuned}. Nuisance: seed. Fixed: the scale ({worded(batch.scale)}) and everything else.",
        f"# Budget: {batch.n_runs} runs, {batch.cost_flops:.3g} FLOPs; sd of ln {found.of} at the target then"
        f" {batch.sd_after:.3g}, now {found.now_sd:.3g}.",
        "defaults:",
        *groups,
        "  - override /hydra/launcher: joblib",
        "",
        f"study: {name}",
        *_nested(fixed),
        "",
        "hydra:",
        "  launcher:",
        "    n_jobs: -1",
        "  sweeper:",
        "    params:",
        *(f"      {key}: {','.join(map(_number, values))}" for key, values in swept.items()),
        f"      seed: {','.join(map(str, batch.seeds))}",
    ]
    return "\n".join(lines) + "\n"


def _nested(flat: Mapping[str, str]) -> Iterable[str]:
    """Dotted keys as YAML, those of one parent together."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        at = tree
        *parents, last = key.split(".")
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    return _indented(tree, "")


def _indented(tree: Mapping[str, Any], margin: str) -> Iterable[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield f"{margin}{key}:"
            yield from _indented(value, margin + "  ")
        else:
            yield f"{margin}{key}: {value}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
