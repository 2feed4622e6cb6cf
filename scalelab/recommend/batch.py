"""Which batch: the best one by the runs or by published laws, and what the batches up to the critical one cost.

A batch B against the critical one Bc (McCandlish et al., arXiv:1812.06162 eq. 2.11 and 5.5: (S/Smin − 1)(E/Emin − 1) =
1 and Bc = Emin/Smin) needs 1 + B/Bc times the tokens that small batches need, in 1 + Bc/B times the fewest steps. Bc
itself is Power Lines' (arXiv:2505.13738), in tokens alone.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scalelab.laws import GroupLaws
from scalelab.recipe import Value
from scalelab.recommend.belief import Belief
from scalelab.recommend.quoted import Quoted, paper_of, quoted
from scalelab.recommend.regret import safest
from scalelab.spec import RunSpec
from scalelab.target import target_spec

OPTIMAL = ("power_lines_batch/power_lines", "step_law_batch/step_law")
CRITICAL = "power_lines_critical_batch/power_lines"
NEAR_DECADES = 1.5
MOST_MOVED = 32.0  # times the proxies' batch: by how much the best rate moves with it is assumed (`belief`)
MOST_ROWS = 10
MOST_LOST = 10.0  # per cent of the loss: larger batches than that are nobody's choice


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The batch of a recipe: `spec` with it, its `Value`, the critical batch in tokens (None where no law says), and
    `table`, a row for each batch from half the best one to the critical one, as plain data."""

    spec: RunSpec
    value: Value
    critical: float | None
    table: tuple[Mapping[str, Any], ...]


def choose(
    spec: RunSpec, belief: Belief, *, proxy: RunSpec, target: Mapping[str, int], own: Collection[str],
    swept_tokens: tuple[float, float], tried: Mapping[float, float],
) -> Batch:  # fmt: skip
    """The batch of a target.

    A batch that was asked for stays. Else the runs' best one: of the valley in batch, or of those tried where no valley
    could be fitted and the target trains as long as the proxies. Where none was swept, theirs, if it trains as long;
    else that of published laws, as far as they were fitted there.

    Args:
        spec: the target with the proxies' batch, or with the one asked for.
        belief: at that target.
        proxy: the largest proxy.
        target: as asked: with another batch than the proxies' the nearest whole number of steps is taken.
        own: scales of the horizon in which the target is its own base (`target_spec`).
        swept_tokens: the shortest and the longest of the proxies.
        tried: the loss in nats at the best learning rate of each batch that the largest scale was trained with.
    """
    fitted, as_long = "batch_tokens" in belief.valleys, swept_tokens[0] <= spec.horizon.tokens <= swept_tokens[1]
    known = {key: quoted(key, spec) for key in (*OPTIMAL, CRITICAL) if spec.model == paper_of(key).model}
    proxys = spec.horizon.batch_tokens
    critical = known[CRITICAL].value if CRITICAL in known else None
    if fitted:
        best = math.exp(safest(belief, "batch_tokens", {}))
        low, high = np.exp(np.quantile(belief.best("batch_tokens", {}), [0.025, 0.975]))
        value = Value(
            name="batch_tokens", value=best, low=float(low), high=float(high), unit="tokens", source="law",
            rests_on="the valley in batch of all runs in one likelihood, its best rate with it",
        )  # fmt: skip
    elif as_long and len(tried) > 1:
        value = _best_tried(tried)
    else:
        value = _published(spec, known, horizon_as_swept=as_long, none=_no_valley(tried))
    assert isinstance(value.value, float)
    best, chosen = value.value, proxys
    if "batch_tokens" in target:
        beside = f"; {value.source} says {best:,.0f}" if value.source in ("law", "published") else ""
        value = replace(value, value=float(proxys), source="asked", rests_on=f"as asked{beside}: {value.rests_on}")
    elif value.source == "proxies":
        chosen = round(best)
    else:
        chosen = _whole(best, spec)
        value = replace(
            value, value=float(chosen), rests_on=f"{value.rests_on}; {best:,.0f} to a power of two sequences"
        )
    return Batch(
        spec=spec if chosen == proxys else _with_batch(proxy, target, own, chosen), value=value, critical=critical,
        table=tuple(_rows(spec, belief if fitted else None, best, critical, chosen)),
    )  # fmt: skip


def tried_at_largest(group: GroupLaws) -> dict[float, float]:
    """The loss in nats at the best learning rate of each batch that the largest scale was trained with."""
    seen = [(o.scale, o.loss_nats) for o in group.optima if o.loss_nats is not None and "batch_tokens" in o.scale]
    if not seen:
        return {}

    def size(scale: Mapping[str, float]) -> tuple[float, ...]:
        return scale.get("params_non_embedding", 0.0), scale.get("tokens", 0.0)

    largest = max(size(scale) for scale, _ in seen)
    return {scale["batch_tokens"]: nats for scale, nats in sorted(seen, key=lambda each: each[0]["batch_tokens"])
            if size(scale) == largest}  # fmt: skip


def _best_tried(tried: Mapping[float, float]) -> Value:
    """The one with the lowest loss, which is a bound where it is the smallest or the largest."""
    best = min(tried, key=lambda batch: tried[batch])
    edges = {min(tried): "the smallest: smaller ones may be better", max(tried): "the largest: larger may be better"}
    listed = ", ".join(f"{batch:,.0f}: {nats:.4f}" for batch, nats in tried.items())
    edge = f", {edges[best]}" if best in edges else ""
    return Value(
        name="batch_tokens", value=best, unit="tokens", source="proxies",
        rests_on=f"the best of those tried at the largest scale ({listed} nats){edge}; {_no_valley(tried)}",
    )  # fmt: skip


def _no_valley(tried: Mapping[float, float]) -> str:
    return "no valley in batch could be fitted" if len(tried) > 1 else "no batch was swept within a scale"


def _published(spec: RunSpec, known: Mapping[str, Quoted], *, horizon_as_swept: bool, none: str) -> Value:
    """By published laws, with what they disagree for an interval; the proxies' where none reaches."""
    own = float(spec.horizon.batch_tokens)
    optimal = [known[key] for key in OPTIMAL if key in known]
    said = ", ".join(f"{law.entry.name.replace('_', ' ')} {law.value:,.0f}" for law in optimal) or "none"
    if horizon_as_swept:
        why = f"{none}, and the target trains as long as the proxies (published laws: {said})"
        return Value(name="batch_tokens", value=own, unit="tokens", source="proxies", rests_on=why)
    if not any(_near(law) for law in optimal):
        tokens = f"{spec.horizon.tokens:,} tokens"
        why = f"{none}, and {tokens} are far outside of published laws ({said})"
        return Value(name="batch_tokens", value=own, unit="tokens", source="proxies", rests_on=why)
    values = [law.value for law in optimal]
    best = math.exp(float(np.mean(np.log(values))))
    if not 1 / MOST_MOVED <= best / own <= MOST_MOVED:
        why = (
            f"{none}; published laws ({said}) are ×{best / own:.3g} the proxies', too far to"
            " carry a learning rate: sweep batches, or proxies with larger ones"
        )
        return Value(name="batch_tokens", value=own, unit="tokens", source="proxies", rests_on=why)
    return Value(
        name="batch_tokens", value=best, low=min(values), high=max(values),
        unit="tokens", source="published",
        rests_on=f"{none}; between " + " and ".join(law.rests_on for law in optimal),
    )  # fmt: skip


def _near(law: Quoted) -> bool:
    """Whether the range of the fit is known and the target within a decade and a half of it."""
    return law.entry.record is not None and all(abs(decades) < NEAR_DECADES for decades in law.decades.values())


def _whole(batch: float, spec: RunSpec) -> int:
    """The nearest batch of a power of two sequences, no longer than the run."""
    context = spec.shape.context
    most = max(spec.horizon.tokens // context, 1).bit_length() - 1
    return context * int(2 ** min(max(round(math.log2(batch / context)), 0), most))


def _with_batch(proxy: RunSpec, target: Mapping[str, int], own: Collection[str], batch: int) -> RunSpec:
    """The target as if this batch had been asked for, tokens to whole steps of it."""
    tokens = max(round(target.get("tokens", proxy.horizon.tokens) / batch), 1) * batch
    return target_spec(proxy, {**target, "tokens": tokens, "batch_tokens": batch}, own)


def _rows(
    spec: RunSpec, belief: Belief | None, best: float, critical: float | None, chosen: int
) -> Iterator[dict[str, Any]]:
    """Batches from half the best to the critical one, by factors of two, and the chosen one."""
    first = math.floor(math.log2(best / 2 / spec.shape.context))
    last = math.ceil(math.log2((critical or 2 * best) / spec.shape.context))
    sizes = {spec.shape.context * 2**k for k in range(max(first, 0), min(last, first + MOST_ROWS - 1) + 1)}
    for batch in sorted({*sizes, chosen}):
        if batch > spec.horizon.tokens:
            break
        at = {"batch_tokens": np.array([math.log(batch)])}
        lost = None if belief is None else float(np.expm1(belief.height("batch_tokens", at)).mean())
        if lost is not None and 100 * lost > MOST_LOST and batch > max(best, chosen):
            break
        yield {
            "batch_tokens": batch,
            "steps": round(spec.horizon.tokens / batch),
            "excess_tokens_percent": None if critical is None else 100 * batch / critical,
            "excess_loss_percent": None if lost is None else 100 * min(lost, 1.0),
            "chosen": batch == chosen,
        }
