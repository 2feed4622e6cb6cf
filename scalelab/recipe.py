"""The recipe: what is handed over. Every resolved value with its interval, and the evidence it rests on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from scalelab import __version__
from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.resolve import Group
from scalelab.spec import as_plain

RECIPE_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class LrChoice:
    """One way to the base learning rate at the target: value with 95 % interval, where it comes from, what it rests on.

    `kind` is "averaged" (theory and measurement by their weights, at the rate that is expected to lose least), "theory"
    (the table carries it: the optimum is the same at every scale, pooled over the proxies), "measured" (the fitted law,
    extrapolated), "constant" (the pooled optimum, which the table does not claim), "published" or "asked".
    """

    kind: str
    value: float
    low: float
    high: float
    law: str
    rests_on: str


@dataclass(frozen=True, kw_only=True)
class GroupRecipe:
    """The values of the parameters that match `patterns` (shell wildcards on parameter names), at the target.

    `family` is the optimizer's (adam, sgd, muon, …): a matrix optimizer hands what is no matrix to Adam.
    `lr` is the peak with its interval `lr_low`..`lr_high`; `weight_decay` is torch's (a step decays by
    lr·weight_decay); `eps` None where the optimizer has none; `init_std` 0 means zeros (gains: ones); `multiplier`
    is on the forward pass.
    """

    role: str
    family: str
    patterns: tuple[str, ...]
    init_std: float
    multiplier: float
    lr: float
    lr_low: float
    lr_high: float
    weight_decay: float
    eps: float | None


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value of a recipe: what it is, within which 95 % interval, where it comes from.

    `source` is "theory" (the table), "law" (fitted to these runs), "both" (weighted by `theory_weight`, 0 to 1),
    "published" (somebody's law), "proxies" (as all of them had it), "asked" or "convention". `value` is a number, or a
    word (a schedule's name). `rests_on` says it in words, with the source of what is not the runs'.
    """

    name: str
    value: float | str | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    source: str
    theory_weight: float | None = None
    rests_on: str


@dataclass(frozen=True, kw_only=True)
class Regret:
    """What a setting is expected to lose beside the best one at the target, from the joint uncertainty of the laws.

    `setting` says which ("recommended", or a name of `Value` with its `factor`, 0.5 or 2). `nats` is the mean over that
    uncertainty, `high` its 95 % quantile; `compute_percent` how much more compute would make up for it by the loss
    law's slope, None where there is no loss law.
    """

    setting: str
    factor: float
    nats: float
    high: float
    loss_percent: float | None
    compute_percent: float | None


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """A run that would reduce a recipe's risk: what to type, its cost, what is expected lost before and after."""

    overrides: tuple[str, ...]
    why: str
    cost_flops: float
    risk_nats: float
    risk_after_nats: float


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run at the target, resolved.

    `origin` is "sweep" (laws fitted to runs) or "published" (somebody's law, no run). `lr` is the chosen base learning
    rate; `choices` are all of them. `values` are all numbers with their sources, `regrets` what the setting and those
    around it are expected to lose (none where a scale is unverified), `confirm` the cheapest runs that would reduce
    that. `spec` is the run as a `RunSpec` in plain types, `overrides` reproduce it with `scalelab train --recipe`.
    """

    origin: str
    parametrization: str
    optimizer: str
    target: Mapping[str, int]
    base: Mapping[str, int]
    params: Mapping[str, int]
    cost_flops: float
    lr: LrChoice
    why: str
    choices: tuple[LrChoice, ...]
    values: tuple[Value, ...]
    regrets: tuple[Regret, ...]
    confirm: tuple[NextRun, ...]
    run: Mapping[str, Any]
    sites: Mapping[str, float]
    groups: tuple[GroupRecipe, ...]
    evidence: Mapping[str, Any]
    warnings: tuple[str, ...]
    spec: Mapping[str, Any]
    overrides: tuple[str, ...]


def patterns(group: Group) -> tuple[str, ...]:
    """The names of a group with block numbers as a wildcard, each once, in forward order."""
    return tuple(dict.fromkeys(re.sub(r"^blocks\.\d+\.", "blocks.*.", name) for name in group.names))


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write recipe.yaml, atomically."""
    plain = {"kind": "scalelab recipe", "version": RECIPE_VERSION, "scalelab": __version__, **as_plain(recipe)}
    write_atomically(path, yaml.safe_dump(plain, sort_keys=False, width=120, allow_unicode=True))


def read_recipe(path: Path) -> Recipe:
    """Read recipe.yaml; `Refused` where it is missing, corrupt or something else."""
    try:
        plain = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise Refused(f"{path} does not exist: `scalelab recommend` writes a recipe.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise Refused(f"{path} is not a recipe: {str(error).splitlines()[0]}") from None
    if not isinstance(plain, dict) or plain.get("kind") != "scalelab recipe" or plain.get("version") != RECIPE_VERSION:
        raise Refused(f"{path} is not a scalelab recipe of version {RECIPE_VERSION}: `scalelab recommend` writes one")
    missing = [field.name for field in fields(Recipe) if field.name not in plain]
    if missing:
        raise Refused(f"{path} lacks {', '.join(missing)}: write it again with `scalelab recommend`")
    try:
        return _recipe({field.name: plain[field.name] for field in fields(Recipe)})
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Refused(f"{path} is damaged ({error}): write it again with `scalelab recommend`") from None


def _choice(values: Mapping[str, Any]) -> LrChoice:
    return LrChoice(**{**values, **{name: float(values[name]) for name in ("value", "low", "high")}})


def _recipe(values: Mapping[str, Any]) -> Recipe:
    return Recipe(
        **{
            **values,
            "lr": _choice(values["lr"]),
            "choices": tuple(_choice(choice) for choice in values["choices"]),
            "values": tuple(Value(**value) for value in values["values"]),
            "regrets": tuple(Regret(**regret) for regret in values["regrets"]),
            "confirm": tuple(NextRun(**{**run, "overrides": tuple(run["overrides"])}) for run in values["confirm"]),
            "groups": tuple(GroupRecipe(**{**g, "patterns": tuple(g["patterns"])}) for g in values["groups"]),
            "warnings": tuple(values["warnings"]),
            "overrides": tuple(values["overrides"]),
        }
    )
