"""The recipe: what is handed over. Every resolved value with its interval, and the evidence it rests on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import yaml

from scalelab import __version__
from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.models import count_params
from scalelab.resolve import Group, betas, groups, multipliers, settings
from scalelab.spec import Horizon, Hparams, RunSpec, as_plain, from_plain
from scalelab.typed import Having, Number, OneOf, built

RECIPE_VERSION = 3

# What read_recipe accepts, as the docstrings below say it.
KINDS = ("averaged", "theory", "measured", "constant", "published", "asked")
SOURCES = ("theory", "law", "both", "published", "proxies", "asked", "convention")
ORIGINS = ("sweep", "published")
SHAPE = ("vocab", "context", "width", "depth", "heads", "kv_heads", "ffn")
Positive = Annotated[float, Number(low=0, above=True)]
NotNegative = Annotated[float, Number(low=0)]
Bound = Annotated[float, Number(nan=True, infinite=True)]
RateBound = Annotated[float, Number(low=0, nan=True, infinite=True)]
Counts = Mapping[str, Annotated[int, Number(low=0)]]


@dataclass(frozen=True, kw_only=True)
class LrChoice:
    """One way to the base learning rate at the target: value with 95 % interval, where it comes from, what it rests on.

    `kind` is "averaged" (theory and measurement by their weights, at the rate that is expected to lose least), "theory"
    (the table carries it: the optimum is the same at every scale, pooled over the proxies), "measured" (the fitted law,
    extrapolated), "constant" (the pooled optimum, which the table does not claim), "published" or "asked".
    """

    kind: Annotated[str, OneOf(KINDS)]
    value: Positive
    low: RateBound
    high: RateBound
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
    init_std: NotNegative
    multiplier: Positive
    lr: NotNegative
    lr_low: RateBound
    lr_high: RateBound
    weight_decay: NotNegative
    eps: Positive | None


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value of a recipe: what it is, within which 95 % interval, where it comes from.

    `source` is "theory" (the table), "law" (fitted to these runs), "both" (weighted by `theory_weight`, 0 to 1),
    "published" (somebody's law), "proxies" (as all of them had it), "asked" or "convention". `value` is a number, or a
    word (a schedule's name). `rests_on` says it in words, with the source of what is not the runs'.
    """

    name: str
    value: float | str | None
    low: Bound | None = None
    high: Bound | None = None
    unit: str = ""
    source: Annotated[str, OneOf(SOURCES)]
    theory_weight: NotNegative | None = None
    rests_on: str


@dataclass(frozen=True, kw_only=True)
class Regret:
    """What a setting is expected to lose beside the best one at the target, from the joint uncertainty of the laws.

    `setting` says which ("recommended", or a name of `Value` with its `factor`, 0.5 or 2). `nats` is the mean over that
    uncertainty, `high` its 95 % quantile; `compute_percent` how much more compute would make up for it by the loss
    law's slope, None where there is no loss law.
    """

    setting: str
    factor: Positive
    nats: float
    high: Bound
    loss_percent: float | None
    compute_percent: float | None


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """A run that would reduce a recipe's risk: what to type, its cost, what is expected lost before and after."""

    overrides: tuple[str, ...]
    why: str
    cost_flops: NotNegative
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

    origin: Annotated[str, OneOf(ORIGINS)]
    parametrization: str
    optimizer: str
    target: Annotated[Counts, Having((*SHAPE, "tokens", "batch_tokens", "steps"))]
    base: Annotated[Counts, Having(SHAPE)]
    params: Annotated[Counts, Having(("non_embedding", "total"))]
    cost_flops: NotNegative
    lr: LrChoice
    why: str
    choices: tuple[LrChoice, ...]
    values: tuple[Value, ...]
    regrets: tuple[Regret, ...]
    confirm: tuple[NextRun, ...]
    run: Annotated[Mapping[str, float | bool | str | None], Having(("schedule", "weight_decay"))]
    sites: Mapping[str, float]
    groups: tuple[GroupRecipe, ...]
    evidence: Mapping[str, Any]
    warnings: tuple[str, ...]
    spec: Mapping[str, Any]
    overrides: tuple[str, ...]


def patterns(group: Group) -> tuple[str, ...]:
    """The names of a group with block numbers as a wildcard, each once, in forward order."""
    return tuple(dict.fromkeys(re.sub(r"^blocks\.\d+\.", "blocks.*.", name) for name in group.names))


def next_overrides(recipe: Recipe, number: int) -> tuple[str, ...]:
    """The settings of a recipe's next runs, counted from 1; `Refused` where it names no such runs."""
    if not 1 <= number <= len(recipe.confirm):
        there = f"1 to {len(recipe.confirm)}" if recipe.confirm else "none: it names no next runs"
        raise Refused(f"--next {number}: the recipe's are {there}")
    return tuple(each for each in recipe.confirm[number - 1].overrides if not each.startswith("study="))


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write recipe.yaml, atomically."""
    plain = {"kind": "scalelab recipe", "version": RECIPE_VERSION, "scalelab": __version__, **as_plain(recipe)}
    write_atomically(path, yaml.safe_dump(plain, sort_keys=False, width=120, allow_unicode=True))


def resolved(spec: RunSpec, lr: LrChoice) -> dict[str, Any]:
    """The fields of a recipe that its spec and the interval of its learning rate say."""
    sites, params = multipliers(spec), count_params(spec)
    hparams = {name: value for name, value in as_plain(spec.hparams).items() if name != "lr"}
    return {
        "parametrization": spec.parametrization,
        "optimizer": spec.optimizer,
        "target": {**spec.shape.as_dict(), "tokens": spec.horizon.tokens, "batch_tokens": spec.horizon.batch_tokens,
                   "steps": spec.horizon.steps},
        "base": spec.base.as_dict(),
        "params": {"non_embedding": params.non_embedding, "total": params.total},
        "cost_flops": float(spec.cost_flops),
        "run": {**as_plain(spec.horizon), **hparams, **dict(zip(("beta1", "beta2"), betas(spec), strict=True))},
        "sites": {"softmax_scale": sites.attention, "residual_branch": sites.residual,
                  "embedding": spec.hparams.embedding_multiplier},
        "groups": tuple(
            GroupRecipe(
                role=str(g.role), family=str(g.family), patterns=patterns(g), init_std=g.init_std,
                multiplier=g.multiplier, lr=g.lr, lr_low=g.lr * lr.low / lr.value, lr_high=g.lr * lr.high / lr.value,
                weight_decay=g.weight_decay, eps=g.eps,
            )
            for g in groups(settings(spec))
        ),
    }  # fmt: skip


def read_recipe(path: Path) -> Recipe:
    """Read recipe.yaml; `Refused` where it is missing, corrupt or something else, or a value is no value of its field.

    Whether its fields agree with its `spec` is not asked: exporters do.
    """
    try:
        plain = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise Refused(f"{path} does not exist: `scalelab recommend` writes a recipe.yaml") from None
    except (yaml.YAMLError, ValueError, IsADirectoryError, RecursionError) as error:
        raise Refused(f"{path} is not a recipe: {str(error).splitlines()[0]}") from None
    if not isinstance(plain, dict) or plain.get("kind") != "scalelab recipe" or plain.get("version") != RECIPE_VERSION:
        raise Refused(f"{path} is not a scalelab recipe of version {RECIPE_VERSION}: `scalelab recommend` writes one")
    missing = [field.name for field in fields(Recipe) if field.name not in plain]
    if missing:
        raise Refused(f"{path} lacks {', '.join(missing)}: write it again with `scalelab recommend`")
    try:
        return recipe_of({field.name: plain[field.name] for field in fields(Recipe)})
    except Refused as refused:
        raise Refused(f"{path} is damaged ({refused}): write it again with `scalelab recommend`") from None


def recipe_of(plain: Mapping[str, Any]) -> Recipe:
    """The recipe that `as_plain` wrote; `Refused` where a field is missing or unknown, of another type or no value."""
    try:
        recipe: Recipe = built(Recipe, plain)
        for part, known in ((Horizon, {}), (Hparams, {"lr": recipe.lr.value})):
            own = {field.name: recipe.run[field.name] for field in fields(part) if field.name in recipe.run}
            built(part, {**own, **known}, "run")
        built(RunSpec, {**recipe.spec, "command": None}, "spec")
        from_plain(recipe.spec)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Refused(" ".join(str(error).split())) from None
    return recipe
