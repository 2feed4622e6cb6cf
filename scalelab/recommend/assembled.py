"""A resolved target and what is said of it → a recipe: every number of it is the spec's, resolved by the table."""

from collections.abc import Mapping, Sequence
from typing import Any

from scalelab.models import count_params
from scalelab.overrides import overrides_of
from scalelab.recipe import GroupRecipe, LrChoice, NextRun, Recipe, Regret, Value, patterns
from scalelab.resolve import betas, groups, multipliers, settings
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
    plain, sites, params = as_plain(resolved), multipliers(resolved), count_params(resolved)
    return Recipe(
        origin=origin,
        parametrization=resolved.parametrization,
        optimizer=resolved.optimizer,
        target={**resolved.shape.as_dict(), "tokens": resolved.horizon.tokens,
                "batch_tokens": resolved.horizon.batch_tokens, "steps": resolved.horizon.steps},
        base=resolved.base.as_dict(),
        params={"non_embedding": params.non_embedding, "total": params.total},
        cost_flops=float(resolved.cost_flops),
        lr=chosen,
        why=why,
        choices=tuple(choices),
        values=tuple(values),
        regrets=tuple(regrets),
        confirm=tuple(confirm),
        run={**plain["horizon"], **{k: v for k, v in plain["hparams"].items() if k != "lr"},
             **dict(zip(("beta1", "beta2"), betas(resolved), strict=True))},
        sites={"softmax_scale": sites.attention, "residual_branch": sites.residual,
               "embedding": resolved.hparams.embedding_multiplier},
        groups=tuple(
            GroupRecipe(
                role=str(g.role), family=str(g.family), patterns=patterns(g), init_std=g.init_std,
                multiplier=g.multiplier, lr=g.lr, lr_low=g.lr * chosen.low / chosen.value,
                lr_high=g.lr * chosen.high / chosen.value, weight_decay=g.weight_decay, eps=g.eps,
            )
            for g in groups(settings(resolved))
        ),
        evidence=evidence,
        warnings=tuple(warnings),
        spec=plain,
        overrides=tuple(overrides_of(resolved)),
    )  # fmt: skip
