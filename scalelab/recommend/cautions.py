"""What else may be wrong with a recipe, in plain words, each with what to do about it. What lies behind the laws (how
far they are extrapolated, optima at the edge, too few scales) is warned of in `evidence`."""

import math
from collections.abc import Iterator, Sequence

from scalelab.laws import GroupLaws
from scalelab.parametrizations.table import Family
from scalelab.recipe import LrChoice, Regret, Value
from scalelab.recommend.batch import tried_at_largest
from scalelab.recommend.belief import Belief
from scalelab.resolve import betas, settings
from scalelab.spec import RunSpec

DOUBTED = 0.05  # weight of a claim of the table, below which the runs contradict it
WIDE = 16.0  # high over low of an interval: factors of four to either side
FP16_LEAST = 6e-8  # the smallest number that half precision holds
LOW_PRECISION_EPS = 1e-10
LEAST_TAU_STEPS = 10  # weights that forget faster follow the last few batches


def cautions(
    group: GroupLaws, belief: Belief, spec: RunSpec, chosen: LrChoice, tau: Value | None, critical: float | None,
    regrets: Sequence[Regret], silent: Sequence[str] = (), own: Sequence[str] = (),
) -> Iterator[str]:  # fmt: skip
    """Warnings on a resolved target; `silent` are scales in which it is unverified, `own` those of the horizon in which
    it is its own base."""
    if silent:
        yield (
            f"no regret is stated, since nothing says how the optimum moves with {' and '.join(silent)}: vary that"
            " among the proxies, or take the next runs first"
        )
    elif not regrets:
        yield "no regret is stated, since no valley was fitted: sweep learning rates to both sides of the best one"
    elif len(tried := tried_at_largest(group)) > 1 and "batch_tokens" not in belief.valleys:
        yield (
            f"the regrets are of the learning rate at batch_tokens {spec.horizon.batch_tokens:,}: no valley in batch"
            " could be fitted, so what another batch would gain is not in them; sweep batches to both sides of"
            f" {min(tried, key=lambda batch: tried[batch]):,.0f}"
        )
    yield from belief.untested
    for name in own:
        yield (
            f"the proxies vary {name}, each with its own for its base, and so has the target: it follows the law of"
            f" these runs there, without the factors of {spec.parametrization!r} (weight_decay_policy"
            f" {spec.weight_decay_policy!r}); for those sweep with one base.{name}"
        )
    yield from _theory(belief)
    yield from _unidentified(group, chosen)
    yield from _diverged(group, chosen)
    yield from _noise(group, regrets)
    batch = spec.horizon.batch_tokens
    if critical is not None and batch > critical:
        yield (
            f"batch_tokens {batch:,} is ×{batch / critical:.3g} the critical batch {critical:,.0f} (Power Lines): more"
            " tokens a step buy few steps there; use a smaller batch, or take it for its shorter run"
        )
    yield from _tau(spec, tau)
    yield from _adam(spec)


def _theory(belief: Belief) -> Iterator[str]:
    for name, weight in belief.claims.items():
        if weight < DOUBTED:
            yield (
                f"theory and measurement disagree in {name}: the table claims a constant optimum, and these runs leave"
                f" that a weight of {weight:.2g}; run `scalelab check`, and confirm at a size between"
            )


def _unidentified(group: GroupLaws, chosen: LrChoice) -> Iterator[str]:
    if group.joint is not None:
        yield from group.joint.warnings
    if chosen.high / chosen.low > WIDE:
        yield (
            f"the interval of the learning rate spans ×{chosen.high / chosen.low:.0f}: sweep scales nearer to the"
            " target, or more of them"
        )


def _diverged(group: GroupLaws, chosen: LrChoice) -> Iterator[str]:
    if not group.n_diverged:
        return
    stable = [o for o in group.optima if o.n_diverged and o.log2_lr_stable is not None]
    largest = max(stable, key=lambda o: o.scale.get("params_non_embedding", 0.0), default=None)
    said = f"{group.n_diverged} of {group.n_runs} runs diverged"
    if largest is None or largest.lr_stable is None:
        yield f"{said}: keep a lower learning rate at hand"
    elif chosen.high > largest.lr_stable:
        beyond = "the recipe's own" if chosen.value > largest.lr_stable else "the upper end of its interval"
        yield (
            f"{said}, and {beyond} lies above {largest.lr_stable:.3g}, the highest rate that was stable at the largest"
            " scale where some were not: warm up longer, watch the gradient norm, keep half of it at hand"
        )


def _noise(group: GroupLaws, regrets: Sequence[Regret]) -> Iterator[str]:
    if group.noise is None:
        return
    if group.noise.source != "seed replicates":
        known = "assumed" if group.noise.source == "assumed" else "read from residuals"
        yield f"the noise of a run is {known}, {group.noise.sd_nats:.2g} nats: replicate a few runs with other seeds"
    around = [r.nats for r in regrets if r.setting == "lr" and r.factor != 1]
    if around and min(around) < group.noise.sd_nats:
        seeds = math.ceil(8 * (group.noise.sd_nats / max(min(around), 1e-6)) ** 2)  # two groups, two standard errors
        yield (
            f"one run's noise is {group.noise.sd_nats:.2g} nats, more than a factor of two in lr costs"
            f" ({min(around):.2g}): it takes about {min(seeds, 999)} seeds a side to see the difference"
        )


def _tau(spec: RunSpec, tau: Value | None) -> Iterator[str]:
    if tau is None or not isinstance(tau.value, float):
        return
    if tau.value > 1:
        yield (
            f"τ is {tau.value:.2g} runs: weights remember more than the whole run, so this weight decay hardly acts;"
            " Power Lines' best τ is 1.084·(tokens a parameter)^−0.527 runs: raise it, or leave it out"
        )
    elif tau.value * spec.horizon.steps < LEAST_TAU_STEPS:
        yield (
            f"τ is {tau.value * spec.horizon.steps:.2g} steps: weights forget all but the last few batches; lower the"
            " weight decay"
        )


def _adam(spec: RunSpec) -> Iterator[str]:
    resolved = settings(spec)
    if not any(s.family is Family.ADAM for s in resolved):
        return
    beta2, warmup = betas(spec)[1], spec.horizon.warmup_steps
    memory = 1 / (1 - beta2)
    if warmup < memory:
        yield (
            f"warmup takes {warmup:,} steps, fewer than Adam's second moment remembers (1/(1−beta2) = {memory:,.0f}):"
            " lengthen it, or lower beta2 for so short a run"
        )
    eps = min((s.eps for s in resolved if s.eps is not None), default=math.inf)
    if eps < LOW_PRECISION_EPS:
        yield (
            f"eps goes down to {eps:.2g}: an optimizer that keeps its moments in half precision rounds it to 0 (its"
            f" least number is {FP16_LEAST:g}) and bfloat16 drops it beside larger ones; keep them in float32"
        )
