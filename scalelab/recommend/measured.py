"""Laws, a table and a target → a recipe.

The tuned number is the base learning rate; the table carries it to every tensor. A parametrization that transfers over
a scale says that its optimum does not move with it, the sweep says how it did move. Neither is taken alone: both are
weighted by what these runs leave of them (`averaging`), every interval and every regret is read from the same draws of
what may be true (`belief`), and of all rates the one is taken that is expected to lose least. Where the table claims
nothing (SP; muP in depth; any table in tokens) theory has no weight, and the recipe says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from scalelab.evidence import domain, evidence, measured, warnings
from scalelab.laws import Estimate, Fit, GroupLaws, Joint, Laws
from scalelab.models import count_params
from scalelab.parametrizations import table
from scalelab.recipe import LrChoice, Recipe, Value
from scalelab.recommend import accepted
from scalelab.recommend import batch as batches
from scalelab.recommend import decay as decays
from scalelab.recommend.assembled import assembled
from scalelab.recommend.averaging import CLAIM
from scalelab.recommend.belief import Belief, believed
from scalelab.recommend.cautions import cautions
from scalelab.recommend.confirming import next_runs
from scalelab.recommend.regret import level, regrets, safest
from scalelab.recommend.values import settled, trained
from scalelab.spec import RunSpec
from scalelab.target import target_spec

CONSTANT = 0.0  # the exponent of the base learning rate over a scale that a table transfers over


def recommend(
    laws: Laws, target: Mapping[str, int], *, parametrization: str | None = None, optimizer: str | None = None
) -> Recipe:
    """The recipe for a target.

    Args:
        laws: what `scalelab fit` made of run folders (files carry no full specification).
        target: width, and what else differs from the largest proxy: depth, tokens, batch_tokens, heads, ffn, … Without
            batch_tokens the batch is chosen, and tokens are rounded to whole steps of it.
        parametrization: whose recipe, where the laws hold several.
        optimizer: likewise.

    Raises:
        Refused: where the laws carry no specification, the choice is ambiguous, or the target is no larger than the
            proxies.
    """
    group = accepted.chosen(laws, parametrization, optimizer)
    proxy = accepted.largest(laws, group)
    own = accepted.swept_apart(group, proxy)
    spec = target_spec(proxy, _whole_steps(target, proxy), own)
    accepted.refuse_smaller(group, spec, proxy)
    claims = [name for name in table(spec.parametrization).transfers if name not in own]
    silent = accepted.silent(group, _inputs(spec), claims)
    swept = domain(group)
    belief = _belief(group, spec, proxy, claims)
    chosen_batch = batches.choose(
        spec, belief, proxy=proxy, target=target, own=own,
        swept_tokens=swept.get("tokens", (0.0, math.inf)), tried=batches.tried_at_largest(group),
    )  # fmt: skip
    if chosen_batch.spec != spec:
        spec = chosen_batch.spec
        belief = _belief(group, spec, proxy, claims)
    inputs = _inputs(spec)
    logs = {"batch_tokens": math.log(spec.horizon.batch_tokens)}
    chosen, choices = _rates(group, belief, inputs, claims, logs)
    logs["lr"] = math.log(chosen.value)
    spec = replace(spec, hparams=replace(spec.hparams, lr=chosen.value))
    varied = {name for name, (low, high) in swept.items() if high > low}
    decay = decays.carried(spec, proxy, belief, varied | measured(group))
    resolved = decay.spec
    if decay.log_tau is not None:
        logs["tau"] = decay.log_tau
    tau, at = (
        decays.time_scale(resolved, decay.value),
        level(group, {**inputs, "cost_flops": float(resolved.cost_flops)}),
    )
    lost = () if silent else regrets(belief, logs, at)
    why = _why(group, belief, claims)
    if silent:
        why += f"; UNVERIFIED in {', '.join(silent)}, which no proxy varied and the table does not claim"
    return assembled(
        resolved,
        chosen,
        origin="sweep",
        why=why,
        choices=tuple(choices.values()),
        values=(
            _rate_value(chosen, belief, claims), *trained(resolved, target.get("tokens")), chosen_batch.value,
            decay.value, *([tau] if tau else []), *settled(resolved, proxy),
        ),
        regrets=lost,
        confirm=next_runs(group.joint, proxy, resolved, nats=at.nats, own=own),
        evidence={
            **evidence(laws, group), "weights": {"theory": belief.theory, **belief.claims, "prior": CLAIM},
            "loss_at_target": {"nats": at.nats, "nats_per_e_fold_of_compute": at.slope_nats, "rests_on": at.rests_on},
            "critical_batch_tokens": chosen_batch.critical, "batches": [dict(row) for row in chosen_batch.table],
        },
        warnings=(
            *warnings(group, chosen, choices, inputs, spec, proxy, claims=claims, assumed=belief.unmeasured),
            *cautions(group, belief, resolved, chosen, tau, chosen_batch.critical, lost, silent, own),
        ),
    )  # fmt: skip


def _whole_steps(target: Mapping[str, int], proxy: RunSpec) -> dict[str, int]:
    """The target with whole steps of the proxies' batch, as long as its own has not been chosen."""
    batch = proxy.horizon.batch_tokens
    if "tokens" not in target or "batch_tokens" in target:
        return dict(target)
    return {**target, "tokens": max(round(target["tokens"] / batch), 1) * batch}


def _inputs(spec: RunSpec) -> dict[str, float]:
    """What laws may be asked at, by column."""
    return {
        "width": float(spec.shape.width),
        "depth": float(spec.shape.depth),
        "params_non_embedding": float(count_params(spec).non_embedding),
        "tokens": float(spec.horizon.tokens),
        "batch_tokens": float(spec.horizon.batch_tokens),
        "weight_decay": float(spec.hparams.weight_decay),
    }


def _belief(group: GroupLaws, spec: RunSpec, proxy: RunSpec, claims: Sequence[str]) -> Belief:
    return believed(group, _inputs(spec), claims, proxy=_inputs(proxy))


def _rates(
    group: GroupLaws, belief: Belief, inputs: Mapping[str, float], claims: Sequence[str], logs: Mapping[str, float]
) -> tuple[LrChoice, dict[str, LrChoice]]:
    """The base learning rate, and all ways to it by themselves."""
    choices = {name: _choice(name, fit, inputs, claims) for name, fit in group.lr_fits.items()}
    if group.joint is not None and "lr" in group.joint.coordinates:
        choices["joint"] = _joint_choice(group.joint, inputs)
    value = math.exp(safest(belief, "lr", logs))
    low, median, high = np.exp(np.quantile(belief.best("lr", {k: np.array([v]) for k, v in logs.items()}),
                                           [0.025, 0.5, 0.975]))  # fmt: skip
    kind = "averaged" if belief.claims else "measured" if set(choices) - {"constant"} else choices["constant"].kind
    off = value / float(median)
    chosen = LrChoice(
        kind=kind, value=value, low=float(low), high=float(high),
        law=f"{' and '.join(belief.averages)}; the rate that is expected to lose least, ×{off:.2f} the middle"
        f" {median:.4g} of what may be best",
        rests_on="; ".join(f"{name}: theory weighs {a.theory:.2f}" for name, a in belief.averages.items()),
    )  # fmt: skip
    return chosen, {"chosen": chosen, **choices}


def _rate_value(chosen: LrChoice, belief: Belief, claims: Sequence[str]) -> Value:
    """The learning rate with the weight of theory in it."""
    if not belief.claims:
        constant = "theory" if chosen.kind == "theory" else "law"
        said = (
            f"no claim of the table could be tested, so theory has no weight of its own ({', '.join(claims) or 'none'})"
        )
        return Value(
            name="lr", value=chosen.value, low=chosen.low, high=chosen.high, source=constant,
            theory_weight=1.0 if constant == "theory" else 0.0, rests_on=f"{chosen.law}; {said}",
        )  # fmt: skip
    weight = belief.theory
    source = "theory" if weight > 0.99 else "law" if weight < 0.01 else "both"
    return Value(
        name="lr", value=chosen.value, low=chosen.low, high=chosen.high, source=source, theory_weight=weight,
        rests_on=f"{chosen.law}; a claim is given {CLAIM:g} before these runs",
    )  # fmt: skip


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


def _why(group: GroupLaws, belief: Belief, claims: Sequence[str]) -> str:
    """What theory and the sweep say on every scale, and the weight of theory."""
    exponents = _exponents(group)
    if not exponents:
        if "constant" in group.lr_fits:
            return "no exponent could be measured, so the optimum is taken as constant, unverified"
        return f"only the law in {', '.join(next(iter(group.lr_fits.values())).reference)} could be fitted"
    varied = list(exponents)
    words = "; ".join(
        f"{name}: theory {f'{CONSTANT:g}' if name in claims else 'silent'},"
        f" the sweep {exponents[name].value:+.2f} [{exponents[name].low:+.2f}, {exponents[name].high:+.2f}]"
        for name in varied
    )
    unclaimed = [name for name in varied if name not in claims]
    against = [name for name in varied if name in claims and not exponents[name].contains(CONSTANT)]
    said = []
    if unclaimed:
        said.append(f"the table does not say how the optimum moves with {', '.join(unclaimed)}")
    if against:
        said.append(f"the sweep contradicts a constant optimum in {', '.join(against)}")
    elif set(varied) - set(unclaimed):
        said.append("the sweep agrees with theory, a constant optimum")
    weight = f"; theory weighs {belief.theory:.2f}" if belief.claims else "; theory has no weight"
    return f"{' and '.join(said)} ({words}){weight}"


def _exponents(group: GroupLaws) -> dict[str, Estimate]:
    """Exponents of the best learning rate: of each scale's optimum, else of all runs in one likelihood."""
    if "power" in group.lr_fits:
        power = group.lr_fits["power"]
        return {name: power.estimates[name] for name in power.reference}
    if group.joint is None or "lr" not in group.joint.coordinates:
        return {}
    return {name: group.joint.estimates[f"lr ~ {name}"] for name in group.joint.coordinates["lr"]}
