"""What a recipe of published laws says of itself: whose each value is, how far outside its fit, what it may lose."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from scalelab.laws import PUBLISHED
from scalelab.recipe import LrChoice, Regret, Value
from scalelab.recommend.quoted import UNITS, Quoted, exponents_only, name_of, paper_of, quoted
from scalelab.recommend.values import trained
from scalelab.spec import RunSpec

NO_RUN = "no run of yours stands behind this recipe: every value is somebody else's, for their data and networks"
ASKED = "as you said"
NEAR = 2**0.25  # a batch this near to the law's own is taken as its own
FAR_DECADES = 1.0


def choice(law: Quoted | None, lr: float, *, own_batch: bool = True) -> LrChoice:
    """Inside the range of the fit and at its own batch the interval is the scatter of its scales; elsewhere nobody has
    measured one (NaN)."""
    if law is None:
        return LrChoice(kind="asked", value=lr, low=math.nan, high=math.nan, law="lr=…", rests_on=ASKED)
    record = law.entry.record
    known = record is not None and record.octaves is not None and law.inside and own_batch
    octaves = 1.96 * record.octaves if known and record is not None and record.octaves is not None else math.nan
    return LrChoice(
        kind="published", value=lr, low=lr * 2**-octaves, high=lr * 2**octaves, law=f"{law.key}: {law.entry.law.form}",
        rests_on=law.rests_on,
    )  # fmt: skip


def others(spec: RunSpec, chosen: str | None) -> list[LrChoice]:
    """What other published laws of the learning rate say at this target: how far they disagree."""
    found = []
    for key, entry in PUBLISHED.items():
        if entry.law.output == "lr" and key != chosen and spec.model == paper_of(key).model and not exponents_only(key):
            at = quoted(key, spec, batch_tokens=float(spec.horizon.batch_tokens))
            found.append(choice(at, at.value, own_batch=not own_batch(spec, at)))
    return found


def values(
    spec: RunSpec, found: Mapping[str, Quoted], chosen: LrChoice, tokens: int, loss: Quoted | None
) -> list[Value]:
    """The values that laws gave, or the user in their place; `tokens` as they were asked."""
    own = {"lr": spec.hparams.lr, "batch_tokens": float(spec.horizon.batch_tokens)}
    if "weight_decay" in found:
        own["weight_decay"] = spec.hparams.weight_decay
    rows = []
    for name, value in own.items():
        at = found.get(name)
        bounds = (chosen.low, chosen.high) if name == "lr" and not math.isnan(chosen.low) else (None, None)
        rounded = "; to whole sequences" if name == "batch_tokens" else ""
        rows.append(
            Value(
                name=name, value=value, low=bounds[0], high=bounds[1], unit=UNITS.get(name, ""),
                source="asked" if at is None else "published", rests_on=ASKED if at is None else at.rests_on + rounded,
            )
        )  # fmt: skip
    rows += trained(spec, tokens)
    if loss is not None:
        rows.append(Value(name="loss", value=loss.value, unit="nats", source="published", rests_on=loss.rests_on))
    return rows


def regrets(law: Quoted | None, loss: Quoted | None, *, own_batch: bool) -> tuple[list[Regret], list[str]]:
    """What the source measured of its law's error where the target lies inside its fit, or why there is none.

    `high` is NaN: sources give means.
    """
    record = law.entry.record if law is not None else None
    if law is None or record is None or record.held_out_percent is None or record.valley_percent is None:
        return [], ["no regret is given: it is not recorded here how much the settings of these laws lose"]
    half, double = record.valley_percent
    said = (
        f"its settings lost {record.held_out_percent:g} % of the loss where that was held out, half the learning rate"
        f" {half:g} % and double {double:g} % ({record.source})"
    )
    if not law.inside:
        return [], [f"no regret is given: the target is outside what {name_of(law.key)} was fitted to; inside, {said}"]
    if not own_batch:
        return [], [f"no regret is given: the batch is not {name_of(law.key)}'s own; with that, {said}"]
    if loss is None:
        return [], [f"inside its fit, {said}; for nats name a law of the loss too, such as chinchilla/epoch"]
    lost = {1.0: record.held_out_percent, 0.5: record.held_out_percent + half, 2.0: record.held_out_percent + double}
    return [
        Regret(setting="recommended" if factor == 1 else "lr", factor=factor, nats=loss.value * percent / 100,
               high=math.nan, loss_percent=percent, compute_percent=None)
        for factor, percent in lost.items()
    ], []  # fmt: skip


def evidence(found: Mapping[str, Quoted]) -> dict[str, Any]:
    """Every law as plain data: formula, coefficients, what went in, what came out, how it was checked."""
    return {
        quantity: {
            "law": at.key, "form": at.entry.law.form, "parameters": dict(at.entry.parameters),
            "inputs": dict(at.inputs), "value": at.value, "decades_outside": dict(at.decades),
            "source": at.entry.source, "checked": at.entry.checked,
        }
        for quantity, at in found.items()
    }  # fmt: skip


def far(found: Mapping[str, Quoted]) -> list[str]:
    """A warning for every input that leaves the range of a fit."""
    said = []
    for quantity, at in found.items():
        for name, decades in at.decades.items():
            strong = " (more than a decade: train something between first)" if abs(decades) > FAR_DECADES else ""
            said.append(
                f"{quantity}: {name} {at.inputs[name]:.3g} is ×{10 ** abs(decades):.3g}"
                f" {'above' if decades > 0 else 'below'} what {name_of(at.key)} was fitted to{strong}"
            )
    return said


def own_batch(spec: RunSpec, law: Quoted | None) -> list[str]:
    """A law of the rate at its own best batch is not corrected for another."""
    if law is None or "batch_tokens" in law.inputs:
        return []
    source = name_of(law.key)
    own = [key for key, e in PUBLISHED.items() if name_of(key) == source and e.law.output == "batch_tokens"]
    if not own:
        return [f"{source}'s rate is for its own batches, which are not recorded here: not corrected for this one"]
    best = quoted(own[0], spec).value
    ratio = spec.horizon.batch_tokens / best
    if 1 / NEAR <= ratio <= NEAR:
        return []
    return [f"{source}'s rate is for its own batch of {best:.3g} tokens; this is ×{ratio:.3g} of it: not corrected"]


def left(spec: RunSpec, said: Collection[str]) -> list[str]:
    """What neither paper nor user said of the network and its data: conf/train.yaml's own."""
    own = []
    if not {"heads", "head_dim"} & set(said):
        own.append(f"head_dim {spec.shape.head_dim}")
    if not any(key.startswith("model") for key in said):
        own.append(f"model {spec.model} with {spec.architecture.mlp}, ffn {spec.shape.ffn}")
    if not any(key.startswith("data") or key == "vocab" for key in said):
        own.append(f"the vocabulary of {spec.shape.vocab} of data={spec.data.name} (say --vocab)")
    return [f"conf/train.yaml's own, since you did not say: {'; '.join(own)}"] if own else []
