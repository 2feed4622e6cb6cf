"""Which batch: the best one by the runs or by published laws, and what the batches up to the critical one cost.

A batch B against the critical one Bc (McCandlish et al., arXiv:1812.06162 eq. 2.11 and 5.5: (S/Smin − 1)(E/Emin − 1) =
1 and Bc = Emin/Smin) needs 1 + B/Bc times the tokens that small batches need, in 1 + Bc/B times the fewest steps. Bc
itself is Power Lines' (arXiv:2505.13738), in tokens alone.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scalelab.errors import Refused
from scalelab.recipe import Value
from scalelab.recommend.belief import Belief
from scalelab.recommend.quoted import Quoted, quoted
from scalelab.recommend.regret import safest
from scalelab.spec import RunSpec

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
    spec: RunSpec, belief: Belief, *, asked: bool, tokens: int, swept_tokens: tuple[float, float]
) -> Batch:  # fmt: skip
    """The batch of a target.

    A batch that was asked for stays. Else the runs' best one, where batches were swept; where none was and the target
    trains as long as the proxies, theirs; where it does not, that of published laws, as far as they were fitted there.

    Args:
        spec: the target with the proxies' batch, or with the one asked for.
        belief: at that target.
        asked: whether the batch was asked for.
        tokens: the target's, as asked: with another batch the nearest whole number of steps is taken.
        swept_tokens: the shortest and the longest of the proxies.
    """
    fitted = "batch_tokens" in belief.valleys
    known = {key: law for key in (*OPTIMAL, CRITICAL) if (law := _quoted(key, spec)) is not None}
    own = spec.horizon.batch_tokens
    critical = known[CRITICAL].value if CRITICAL in known else None
    if fitted:
        best = math.exp(safest(belief, "batch_tokens", {}))
        low, high = np.exp(np.quantile(belief.best("batch_tokens", {}), [0.025, 0.975]))
        value = Value(
            name="batch_tokens", value=best, low=float(low), high=float(high), unit="tokens", source="law",
            rests_on="the valley in batch of all runs in one likelihood, its best rate with it",
        )  # fmt: skip
    else:
        value = _published(spec, known, horizon_as_swept=swept_tokens[0] <= spec.horizon.tokens <= swept_tokens[1])
    assert isinstance(value.value, float)
    best, chosen = value.value, own
    if asked:
        beside = f"; {value.source} says {best:,.0f}" if value.source in ("law", "published") else ""
        value = replace(value, value=float(own), source="asked", rests_on=f"as asked{beside}: {value.rests_on}")
    elif value.source != "proxies":
        chosen = _whole(best, spec)
        value = replace(
            value, value=float(chosen), rests_on=f"{value.rests_on}; {best:,.0f} to a power of two sequences"
        )
    return Batch(
        spec=spec if chosen == own else _with_batch(spec, chosen, tokens), value=value, critical=critical,
        table=tuple(_rows(spec, belief if fitted else None, best, critical, chosen)),
    )  # fmt: skip


def _quoted(key: str, spec: RunSpec) -> Quoted | None:
    try:
        return quoted(key, spec)
    except Refused:  # of other models
        return None


def _published(spec: RunSpec, known: Mapping[str, Quoted], *, horizon_as_swept: bool) -> Value:
    """By published laws, with what they disagree for an interval; the proxies' where none reaches."""
    own = float(spec.horizon.batch_tokens)
    optimal = [known[key] for key in OPTIMAL if key in known]
    said = ", ".join(f"{law.entry.name.replace('_', ' ')} {law.value:,.0f}" for law in optimal) or "none"
    if horizon_as_swept:
        why = (
            f"no batch was swept within a scale, and the target trains as long as the proxies (published laws: {said})"
        )
        return Value(name="batch_tokens", value=own, unit="tokens", source="proxies", rests_on=why)
    if not any(_near(law) for law in optimal):
        tokens = f"{spec.horizon.tokens:,} tokens"
        why = f"no batch was swept within a scale, and {tokens} are far outside of published laws ({said})"
        return Value(name="batch_tokens", value=own, unit="tokens", source="proxies", rests_on=why)
    values = [law.value for law in optimal]
    best = math.exp(float(np.mean(np.log(values))))
    if not 1 / MOST_MOVED <= best / own <= MOST_MOVED:
        why = (
            f"no batch was swept within a scale; published laws ({said}) are ×{best / own:.3g} the proxies', too far to"
            " carry a learning rate: sweep batches, or proxies with larger ones"
        )
        return Value(name="batch_tokens", value=own, unit="tokens", source="proxies", rests_on=why)
    return Value(
        name="batch_tokens", value=best, low=min(values), high=max(values),
        unit="tokens", source="published",
        rests_on="no batch was swept within a scale; between " + " and ".join(law.rests_on for law in optimal),
    )  # fmt: skip


def _near(law: Quoted) -> bool:
    """Whether the range of the fit is known and the target within a decade and a half of it."""
    return law.entry.record is not None and all(abs(decades) < NEAR_DECADES for decades in law.decades.values())


def _whole(batch: float, spec: RunSpec) -> int:
    """The nearest batch of a power of two sequences, no longer than the run."""
    context = spec.shape.context
    most = max(spec.horizon.tokens // context, 1).bit_length() - 1
    return context * int(2 ** min(max(round(math.log2(batch / context)), 0), most))


def _with_batch(spec: RunSpec, batch: int, tokens: int) -> RunSpec:
    """The target with another batch; tokens and warmup to whole steps of it."""
    horizon = spec.horizon
    tokens = max(round(tokens / batch), 1) * batch
    warmup = horizon.warmup_tokens
    if warmup is not None:
        warmup = round(warmup / batch) * batch
    return replace(spec, horizon=replace(horizon, batch_tokens=batch, tokens=tokens, warmup_tokens=warmup))


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
