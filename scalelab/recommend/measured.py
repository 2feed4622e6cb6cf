"""Laws, a table and a target → a recipe.

The tuned number is the base learning rate; the table carries it to every tensor. A parametrization that transfers over
a scale says that its optimum does not move with it, the sweep says how it did move. Where the measured exponents cannot
tell the two apart (theory lies in their 95 % interval), the pooled optimum is taken: extrapolating a slope that is
noise costs more than it can give. Where they can, or where the table claims nothing (SP; muP in depth; any table in
tokens), the measurement is taken, and the recipe says so. Both are always reported.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scalelab.errors import Refused, unknown
from scalelab.evidence import evidence, warnings
from scalelab.laws import Fit, GroupLaws, Joint, Laws, Optimum
from scalelab.models import count_params
from scalelab.overrides import overrides_of
from scalelab.parametrizations import table
from scalelab.recipe import GroupRecipe, LrChoice, Recipe, patterns
from scalelab.resolve import betas, groups, multipliers, settings
from scalelab.spec import RunSpec, as_plain, from_plain
from scalelab.target import target_spec

CONSTANT = 0.0  # the exponent of the base learning rate over a scale that a table transfers over


def recommend(laws: Laws, target: Mapping[str, int], *, parametrization: str | None = None) -> Recipe:
    """The recipe for a target.

    Args:
        laws: what `scalelab fit` made of run folders (files carry no full specification).
        target: width, and what else differs from the largest proxy: depth, tokens, batch_tokens, heads, ffn, …
        parametrization: whose recipe, where the laws hold several.

    Raises:
        Refused: where the laws carry no specification, the choice is ambiguous, or the target is no larger than the
            proxies.
    """
    group = _chosen(laws, parametrization)
    proxy = _largest(laws, group)
    spec = target_spec(proxy, target)
    _refuse_smaller(group, spec, proxy)
    _refuse_twice(group, spec, proxy)
    params = count_params(spec)
    inputs = {
        "width": float(spec.shape.width),
        "depth": float(spec.shape.depth),
        "params_non_embedding": float(params.non_embedding),
        "tokens": float(spec.horizon.tokens),
        "batch_tokens": float(spec.horizon.batch_tokens),
        "weight_decay": float(spec.hparams.weight_decay),
    }
    claims = table(spec.parametrization).transfers
    choices = {name: _choice(name, fit, inputs, claims) for name, fit in group.lr_fits.items()}
    if group.joint is not None and "lr" in group.joint.coordinates:
        choices["joint"] = _joint_choice(group.joint, inputs)
    chosen, why = _decide(group, choices, claims)
    silent = _silent(group, inputs, claims)
    if silent:
        why += f"; UNVERIFIED in {', '.join(silent)}, which no proxy varied and the table does not claim"
    resolved = replace(spec, hparams=replace(spec.hparams, lr=chosen.value))
    plain, sites = as_plain(resolved), multipliers(resolved)
    regret, factor_2 = (None, None) if silent else _regret(group, chosen)
    return Recipe(
        parametrization=resolved.parametrization,
        optimizer=resolved.optimizer,
        target={**resolved.shape.as_dict(), "tokens": resolved.horizon.tokens,
                "batch_tokens": resolved.horizon.batch_tokens, "steps": resolved.horizon.steps},
        base=resolved.base.as_dict(),
        params={"non_embedding": params.non_embedding, "total": params.total},
        cost_flops=float(resolved.cost_flops),
        lr=chosen,
        why=why,
        choices=tuple(choices.values()),
        expected_regret_nats=regret,
        regret_factor_2_nats=factor_2,
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
        evidence=evidence(laws, group),
        warnings=tuple(warnings(group, chosen, choices, inputs, spec, proxy)),
        spec=plain,
        overrides=tuple(overrides_of(resolved)),
    )  # fmt: skip


def _chosen(laws: Laws, parametrization: str | None) -> GroupLaws:
    names = sorted({str(group.key.get("parametrization")) for group in laws.groups})
    wanted = parametrization or (names[0] if len(names) == 1 else None)
    if wanted is None:
        raise Refused(f"these laws hold several parametrizations: choose one with -p, of {', '.join(names)}")
    found = [group for group in laws.groups if group.key.get("parametrization") == wanted]
    if not found:
        raise unknown("parametrization in these laws", wanted, names)
    fitted = [group for group in found if group.lr_fits]
    if not fitted:
        reasons = "; ".join(sorted({reason for group in found for reason in group.not_fitted.values()}))
        raise Refused(f"no learning rate law was fitted for {wanted!r}: {reasons}")
    if len(fitted) > 1:
        keys = [{k: v for k, v in group.key.items() if k != "parametrization"} for group in fitted]
        raise Refused(f"{wanted!r} was fitted in {len(fitted)} settings ({keys}): fit one of them apart")
    return fitted[0]


def _largest(laws: Laws, group: GroupLaws) -> RunSpec:
    key = f"{group.key.get('parametrization')}/{group.key.get('optimizer')}"
    if not laws.template or key not in laws.template:
        raise Refused(
            "these laws were fitted to a file, which does not say what was trained: a recipe needs run folders"
            " (`scalelab train`, then `scalelab fit FOLDER`)"
        )
    return from_plain(laws.template[key])


def _refuse_smaller(group: GroupLaws, spec: RunSpec, proxy: RunSpec) -> None:
    size, largest = (count_params(s).non_embedding for s in (spec, proxy))
    if size < largest:
        raise Refused(
            f"the target has {size:,} non-embedding parameters, fewer than the largest proxy's {largest:,}"
            f" (width {proxy.shape.width}, depth {proxy.shape.depth}): nothing to project, the laws hold its optimum"
        )
    low = min(optimum.scale.get("tokens", math.inf) for optimum in group.optima)
    if spec.horizon.tokens < low < math.inf:
        raise Refused(f"the target trains on {spec.horizon.tokens:,} tokens, fewer than every proxy ({low:,.0f})")


def _refuse_twice(group: GroupLaws, spec: RunSpec, proxy: RunSpec) -> None:
    lengths = {optimum.scale.get("tokens") for optimum in group.optima}
    if len(lengths) > 1 and proxy.base_tokens is None and spec.base_tokens is not None:
        raise Refused(
            f"the proxies vary tokens, each with its own for its base, and {spec.parametrization!r} with"
            f" weight_decay_policy={spec.weight_decay_policy} scales with tokens itself: sweep with one base.tokens"
        )


def _choice(name: str, fit: Fit, inputs: Mapping[str, float], claims: Sequence[str]) -> LrChoice:
    prediction = fit.predict(**{scale: value for scale, value in inputs.items() if scale in fit.domain})
    scales = ", ".join(fit.reference) or "nothing"
    constant = "theory" if set(fit.reference) <= set(claims) else "constant"
    return LrChoice(
        kind=constant if name == "constant" else "measured",
        value=prediction.value,
        low=prediction.low,
        high=prediction.high,
        law=fit.law.form,
        rests_on=f"{fit.n} scales, in {scales}; {fit.status}",
    )


def _joint_choice(joint: Joint, inputs: Mapping[str, float]) -> LrChoice:
    """The joint fit's learning rate at the target's batch: beside the others, since its exponents have priors."""
    scale = {name: value for name, value in inputs.items() if name in joint.domain and name != "batch_tokens"}
    batch = inputs["batch_tokens"] if "batch_tokens" in joint.reference else None
    found = joint.predict(batch_tokens=batch, **scale).values["lr"]
    return LrChoice(
        kind="measured",
        value=found.value,
        low=found.low,
        high=found.high,
        law="all runs in one likelihood: a valley in ln lr about a power law",
        rests_on=joint.status,
    )


def _decide(group: GroupLaws, choices: Mapping[str, LrChoice], claims: Sequence[str]) -> tuple[LrChoice, str]:
    """The choice between theory and measurement, and the reason in words."""
    if "constant" not in choices:
        name = next(iter(choices))
        return choices[name], f"only the law in {', '.join(group.lr_fits[name].reference)} could be fitted"
    if "power" not in choices:
        return choices["constant"], "no exponent could be measured, so the optimum is taken as constant, unverified"
    measured = group.lr_fits["power"].estimates
    varied = list(group.lr_fits["power"].reference)
    words = "; ".join(
        f"{name}: theory {f'{CONSTANT:g}' if name in claims else 'silent'},"
        f" the sweep {measured[name].value:+.2f} [{measured[name].low:+.2f}, {measured[name].high:+.2f}]"
        for name in varied
    )
    unclaimed = [name for name in varied if name not in claims]
    if unclaimed:
        return choices["power"], f"the table does not say how the optimum moves with {', '.join(unclaimed)} ({words})"
    against = [name for name in varied if not measured[name].contains(CONSTANT)]
    if against:
        return choices["power"], f"the sweep contradicts a constant optimum in {', '.join(against)} ({words})"
    return choices["constant"], f"the sweep agrees with theory, a constant optimum ({words})"


def _silent(group: GroupLaws, inputs: Mapping[str, float], claims: Sequence[str]) -> list[str]:
    """Scales in which the target leaves the proxies with neither a law nor a claim of the table to follow."""
    fit = next(iter(group.lr_fits.values()))
    measured = set(group.lr_fits["power"].reference) if "power" in group.lr_fits else set()
    return [
        name
        for name, (low, high) in fit.domain.items()
        if not low <= inputs[name] <= high and name not in measured | set(claims) | {"params_non_embedding"}
    ]


def _largest_valley(group: GroupLaws) -> Optimum | None:
    """The optimum of the largest scale with a fitted valley."""
    fitted = [optimum for optimum in group.optima if optimum.log2_lr is not None]
    by_size = ("params_non_embedding", "tokens")
    return max(fitted, key=lambda o: tuple(o.scale.get(name, 0.0) for name in by_size), default=None)


def _regret(group: GroupLaws, chosen: LrChoice) -> tuple[float | None, tuple[float, float] | None]:
    """Expected excess loss of the choice, and of half and double it, by the largest proxy's valley; nats.

    The optimum is taken as normal in log2 LR with the interval's width: half of E[x²] falls to either side.
    """
    valley = _largest_valley(group)
    if valley is None or valley.curvature_below is None or valley.curvature_above is None:
        return None, None
    below, above = valley.curvature_below, valley.curvature_above
    variance = (math.log2(chosen.high / chosen.low) / (2 * 1.96)) ** 2
    expected = 0.5 * (below + above) * variance
    return expected, (expected + below, expected + above)
