"""Published laws and a target → a recipe that no run of the user's stands behind.

A published law holds where its source fitted it and for the networks that it trained: one learning rate for every
tensor, at the size itself. So the base is the target, no table carries the rate anywhere, and every value says whose it
is. What the laws do not give comes from the setting of the papers that are named, in their order, or is refused.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scalelab.config import spec_from_config
from scalelab.errors import Refused
from scalelab.explain import with_vocab
from scalelab.parametrizations import table
from scalelab.recipe import Recipe
from scalelab.recommend import attributed
from scalelab.recommend.assembled import assembled
from scalelab.recommend.filled import context_of, filled
from scalelab.recommend.quoted import QUANTITIES, Quoted, beside, givers, name_of, papers_of, quoted
from scalelab.spec import RunSpec, from_plain
from scalelab.target import TARGET_KEYS
from scalelab.values import real

FAMILY = ("head_dim", "heads", "kv_heads", "ffn", "experts", "top_k", "granularity")
DECAYS = {"optimizer.weight_decay", "independent_weight_decay"}


def published(
    names: Sequence[str], config: Mapping[str, Any], target: Mapping[str, int], given: Collection[str] = (), *,
    vocab: int | None = None,
) -> Recipe:  # fmt: skip
    """The recipe of published laws for a target.

    Args:
        names: whose laws, as people write them ("step-law"); of two that give a value the first is taken.
        config: a composed conf/train.yaml, with what the user said of architecture, optimizer and parametrization.
        target: width, depth, tokens, and what else is asked for: batch_tokens, heads, ffn, …
        given: the keys of `config` that the user said, which nothing here overrides.
        vocab: the size of the vocabulary, where it is not that of the corpus of `config`.

    Raises:
        Refused: on a law that needs or gives other than this target, a base that is not the target, or a value that
            neither a law, nor a paper's setting, nor the user gives.
    """
    laws = papers_of(names)
    _refuse(laws, config, target, given)
    papers = list(dict.fromkeys(name_of(key) for key in laws.values()))
    stated = _at_the_target(config, target, given, context=context_of(papers))
    probe = _of(_probe(stated, target), vocab)
    found: dict[str, Quoted] = {}
    batch = target.get("batch_tokens")
    if batch is None:
        found["batch_tokens"] = _law("batch_tokens", laws, probe)
        batch = _sequences(found["batch_tokens"].value, probe.shape.context)
    tokens = max(target["tokens"] // batch, 1) * batch
    if "lr" in given:
        lr = real("lr", config["lr"])
    else:
        found["lr"] = _law("lr", laws, probe, batch_tokens=float(batch))
        lr = found["lr"].value
    if "weight_decay" in laws and not DECAYS & set(given):
        found["weight_decay"] = _law("weight_decay", laws, probe, batch_tokens=float(batch), lr=lr)
    decay = found["weight_decay"].value if "weight_decay" in found else None
    rest = filled(papers, stated, given, batch_tokens=batch, steps=tokens // batch, lr=lr, weight_decay=decay)
    values = {**stated, "tokens": tokens, "batch_tokens": batch, "lr": lr}
    spec = _of(spec_from_config(_with(values, rest.keys)), vocab)
    loss = quoted(laws["loss_nats"], spec) if "loss_nats" in laws else None
    law = found.get("lr")
    off = attributed.own_batch(spec, law)
    regrets, silence = attributed.regrets(law, loss, own_batch=not off)
    chosen = attributed.choice(law, lr, own_batch=not off)
    return assembled(
        spec, chosen, origin="published",
        why=f"{', '.join(found[q].key for q in QUANTITIES if q in found)} at the target, which is the base too",
        choices=(chosen, *attributed.others(spec, laws.get("lr"))),
        values=(*attributed.values(spec, found, chosen, target["tokens"], loss), *rest.values),
        regrets=regrets, confirm=(),
        evidence={"published": attributed.evidence(found), "settings": rest.checked},
        warnings=(attributed.NO_RUN, *attributed.far(found), *off, *silence,
                  *rest.warnings, *attributed.left(spec, {*given, *target, *(["vocab"] if vocab else [])})),
    )  # fmt: skip


def _refuse(
    laws: Mapping[str, str], config: Mapping[str, Any], target: Mapping[str, int], given: Collection[str]
) -> None:
    names = ", ".join(dict.fromkeys(name_of(key) for key in laws.values()))
    if missing := [name for name in ("width", "depth", "tokens") if name not in target]:
        raise Refused(f"--published {names} without {', '.join(missing)} in --target: no run says it, so you must")
    if twice := sorted(set(given) & {*TARGET_KEYS, "granularity", "lr_factor"}):
        raise Refused(f"{twice[0]}=… with --published: sizes, tokens and batch are said in --target, lr as lr=…")
    if based := sorted(key for key in given if key.startswith("base")):
        raise Refused(
            f"{based[0]} with --published: the laws of {names} are of the size itself, so the base is the target; a"
            " table carries learning rates of sweeps of yours (`scalelab recommend --laws`)"
        )
    if table(str(config["parametrization"])).unit_scaled:
        raise Refused(
            f"parametrization={config['parametrization']} with --published: its rates are those of unit-scaled"
            " networks, the published ones of plain networks; leave it at sp"
        )
    if (optimizer := config["optimizer"]["name"]) != "adamw":
        raise Refused(f"optimizer={optimizer} with --published: the laws of {names} are AdamW's; accepted is adamw")


def _at_the_target(
    config: Mapping[str, Any], target: Mapping[str, int], given: Collection[str], *, context: int | None
) -> dict[str, Any]:
    """The configuration with the target's sizes, and the target for its base."""
    sizes = {name: value for name, value in target.items() if name in ("width", "depth", *FAMILY)}
    if "head_dim" in target:
        sizes.setdefault("heads", None)  # type: ignore[arg-type]
    if context is not None and "context" not in given:
        sizes["context"] = context
    base = dict.fromkeys((*FAMILY, "tokens", "batch_tokens"))
    return {**config, **sizes, "base": {**base, "width": target["width"], "depth": target["depth"]}}


def _probe(stated: Mapping[str, Any], target: Mapping[str, int]) -> RunSpec:
    """A run at the target by which parameters and FLOPs are counted; its batch and schedule are nobody's."""
    context = int(stated["context"])
    tokens = max(target["tokens"] // context, 1) * context
    plain = {"schedule": "constant", "warmup_fraction": 0.0, "warmup_tokens": None, "independent_weight_decay": None}
    return spec_from_config({**stated, **plain, "tokens": tokens, "batch_tokens": context, "lr": 1e-3})


def _of(spec: RunSpec, vocab: int | None) -> RunSpec:
    return spec if vocab is None else with_vocab(spec, vocab)


def _law(quantity: str, laws: Mapping[str, str], probe: RunSpec, **known: float) -> Quoted:
    if quantity not in laws:
        names = ", ".join(dict.fromkeys(name_of(key) for key in laws.values()))
        say = "batch_tokens=… in --target" if quantity == "batch_tokens" else f"{quantity}=…"
        raise Refused(
            f"{names} gives no {quantity}: name a law of it too, of {', '.join(givers(quantity))}, or say {say}"
        )
    return quoted(laws[quantity], probe, **known)


def _sequences(batch_tokens: float, context: int) -> int:
    return max(round(batch_tokens / context), 1) * context


def _with(config: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with dotted keys set."""
    found = dict(config)
    for key, value in keys.items():
        group, _, name = key.rpartition(".")
        if group:
            found[group] = {**found[group], name: value}
        else:
            found[name] = value
    return found


def with_published(recipe: Recipe, names: str) -> Recipe:
    """A recipe of a sweep with what published laws (names between commas) say at its target, among its values."""
    return replace(recipe, values=(*recipe.values, *beside(split(names), from_plain(recipe.spec))))


def split(names: str) -> list[str]:
    """Names between commas."""
    return [name for name in names.split(",") if name.strip()]
