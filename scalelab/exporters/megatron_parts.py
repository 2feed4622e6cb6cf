"""Megatron-LM's parameters: which of ours each is, how Megatron would start and step it by its flags, what differs.

Megatron has one tensor for queries, keys and values and one for gate and up-projection; rates that are not equal among
ours cannot be said. `planned` chooses the flags, `Plan.factors` and `Plan.overrides` say what no flag does.
"""

import math
from dataclasses import dataclass, replace

from scalelab.errors import Refused
from scalelab.exporters.fold import folded, times
from scalelab.exporters.handed import Handed, Handoff
from scalelab.parametrizations.table import UNDECAYED, Role

# Ours (blocks without their number) → Megatron's, by shell wildcards as its ParamKey has them: names with the local
# layers, and with Transformer Engine's, which keep a norm's gain beside the matrix that follows it.
NAMES: dict[str, tuple[str, ...]] = {
    "embedding.weight": ("*embedding.word_embeddings.weight",),
    "positions.weight": ("*embedding.position_embeddings.weight",),
    "attention.norm.gain": ("*.input_layernorm.weight", "*.self_attention.linear_qkv.layer_norm_weight"),
    "attention.query.weight": ("*.self_attention.linear_qkv.weight",),
    "attention.key.weight": ("*.self_attention.linear_qkv.weight",),
    "attention.value.weight": ("*.self_attention.linear_qkv.weight",),
    "attention.query.bias": ("*.self_attention.linear_qkv.bias",),
    "attention.key.bias": ("*.self_attention.linear_qkv.bias",),
    "attention.value.bias": ("*.self_attention.linear_qkv.bias",),
    "attention.query_norm.gain": ("*.self_attention.q_layernorm.weight",),
    "attention.key_norm.gain": ("*.self_attention.k_layernorm.weight",),
    "attention.output.weight": ("*.self_attention.linear_proj.weight",),
    "attention.output.bias": ("*.self_attention.linear_proj.bias",),
    "mlp.norm.gain": ("*.pre_mlp_layernorm.weight", "*.mlp.linear_fc1.layer_norm_weight"),
    "mlp.gate.weight": ("*.mlp.linear_fc1.weight",),
    "mlp.up.weight": ("*.mlp.linear_fc1.weight",),
    "mlp.gate.bias": ("*.mlp.linear_fc1.bias",),
    "mlp.up.bias": ("*.mlp.linear_fc1.bias",),
    "mlp.down.weight": ("*.mlp.linear_fc2.weight",),
    "mlp.down.bias": ("*.mlp.linear_fc2.bias",),
    "norm.gain": ("*.final_layernorm.weight",),
    "readout.weight": ("*output_layer.weight",),
}
GAINS = tuple(name for name in NAMES if name.endswith(".gain"))
TIED = ("*embedding.word_embeddings.weight", "*output_layer.weight")  # its copy on the last pipeline stage


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of Megatron's parameters in every block: the wildcards of its names, and the values of ours that it is.

    `ours` are our names without block numbers, `values` those of the first, which the others share; `stds` may differ.
    """

    names: tuple[str, ...]
    ours: tuple[str, ...]
    values: Handed
    stds: tuple[float, ...]

    @property
    def vector(self) -> bool:
        return self.values.role in UNDECAYED

    @property
    def hidden(self) -> bool:
        return self.values.role is Role.HIDDEN


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The numbers of the flags, and the parts that they do not fully say.

    `base_hidden` goes to --mup-base-hidden-size (None: no --use-mup) and `ratio` is the width's that follows: Megatron
    divides by it the learning rate and eps of hidden matrices, and by its root their std. Where its rules are not this
    table's it is 1, and the multipliers are all that --use-mup is there for.
    """

    run: Handoff
    parts: tuple[Part, ...]
    base_hidden: int | None
    ratio: float
    embedding: float
    logits: float
    std: float
    embedding_std: float
    lr: float
    eps: float | None
    weight_decay: float

    def drawn(self, part: Part) -> float:
        """The std that Megatron draws a matrix with by the flags."""
        role = part.values.role
        if role in (Role.EMBEDDING, Role.TIED) or (role is Role.READOUT and self.base_hidden is not None):
            return self.embedding_std
        std = self.std / math.sqrt(self.ratio)
        return std / math.sqrt(2 * self.run.spec.shape.depth) if part.values.tensor.writes_residual else std

    def factors(self, part: Part) -> tuple[float, ...]:
        """What Megatron's start of a parameter is to be multiplied by: a matrix it draws, gains at 1, biases at 0.

        Three of queries, keys and values where they differ, else one.
        """
        if part.vector:
            return (part.values.init_mean if part.values.role is Role.GAIN else 1.0,)
        found = tuple(std / self.drawn(part) for std in part.stds)
        return found[:1] if all(_close(each, found[0]) for each in found) else found

    def overrides(self) -> list[dict[str, float]]:
        """What the optimizer group of each part needs beside the flags, in ParamGroupOverride's names."""
        found, seen = [], dict[tuple[float, float], list[float | None]]()
        for part in self.parts:
            values = self._own(part)
            # A checkpoint tells groups apart by learning rate and weight decay alone: groups that differ in eps only
            # would take each other's. The same decay in other words keeps them apart; factors of 2 are exact.
            decay = part.values.weight_decay / self.weight_decay if self.weight_decay else 0.0
            eps = None if part.values.eps is None else number(part.values.eps)
            alike = seen.setdefault((number(part.values.lr), number(decay)), [])
            if eps not in alike:
                alike.append(eps)
            if which := alike.index(eps):
                start = (self.weight_decay or 1.0) * 2.0**which
                values |= {"start_wd": start, "end_wd": start, "wd_mult": decay / 2.0**which}
            found.append(values)
        return found

    def _own(self, part: Part) -> dict[str, float]:
        values, scale = part.values, self.ratio if part.hidden else 1.0
        own = dict[str, float]()
        other_lr = not _close(values.lr, self.lr / scale)
        other_eps = values.eps is not None and self.eps is not None and not _close(values.eps, self.eps / scale)
        together = scale != 1 and (other_lr or other_eps)  # its muP says both at once, and stands back from both
        if other_lr or together:
            own |= {"max_lr": values.lr, "min_lr": values.lr * self.run.horizon.final_lr_ratio}
        if not _close(values.weight_decay, 0.0 if part.vector else self.weight_decay):
            own["wd_mult"] = values.weight_decay / self.weight_decay
        if values.eps is not None and (other_eps or together):
            own["eps"] = values.eps
        return own


def planned(given: Handoff) -> Plan:
    """How to say a run in Megatron's words.

    Raises:
        Refused: where tensors that are one in Megatron have different values.
    """
    run, embedding = _own_multipliers(given)
    parts = _parts(run)
    named = {name: part for part in parts for name in part.ours}
    table = named["embedding.weight"].values
    logits = (named.get("readout.weight") or named["embedding.weight"]).values.multiplier
    spec = run.spec
    ratio = spec.shape.width / spec.base.width
    adam = spec.optimizer == "adamw"
    lr, eps = spec.hparams.lr, spec.hparams.eps if adam else None
    # Megatron's own rule is used where it is the table's; a --mup-output-mult of 1 it takes for one that was not given.
    query = named["attention.query.weight"].values
    native = adam and (ratio == 1 or not _close(logits, 1))
    native = native and _close(query.lr, lr / ratio) and _close(query.eps or 0.0, (eps or 0.0) / ratio)
    if not native:
        ratio = 1.0
    if not any(_close(each.values.lr, lr) for each in parts if not each.hidden or ratio == 1):
        lr = table.lr  # it logs the rate of a group that it was given no other for
    plain = _close(embedding, 1) and _close(logits, 1) and _close(run.attention, 1 / math.sqrt(spec.shape.head_dim))
    mup = ratio != 1 or not plain
    std = (max(named["attention.query.weight"].stds) or 0.02) * math.sqrt(ratio)  # zeros have no factor
    return Plan(
        run=run, parts=parts, base_hidden=round(spec.shape.width / ratio) if mup else None, ratio=ratio,
        embedding=embedding, logits=logits, std=std, embedding_std=table.init_std or std, lr=lr, eps=eps,
        weight_decay=spec.hparams.weight_decay,
    )  # fmt: skip


def _own_multipliers(given: Handoff) -> tuple[Handoff, float]:
    """The run with the multipliers that Megatron has a place for, embedding and logits, and that of the embedding."""
    table = given.by_name["embedding.weight"]
    learned = given.spec.architecture.positions == "learned"  # its multiplier is on the sum with positions
    own = 1.0 if table.role is Role.TIED else table.multiplier
    embedding = 1.0 if learned else given.embedding * own
    tensors, moved = [], []
    for each in given.tensors:
        if each is table and own != 1 and not learned:
            tensors.append(replace(each, multiplier=1.0))
        elif each.role in (Role.READOUT, Role.TIED) or _close(each.multiplier, 1):
            tensors.append(each)
        else:
            tensors.append(times(each, each.multiplier))
            moved.append(each.name)
    said = (f"multipliers of {len(moved)} tensors",) if moved else ()
    run = replace(given, tensors=tuple(tensors), folded=(*given.folded, *said))
    if not learned:
        run = replace(run, embedding=1.0)
    return folded(run, keep=("tensors", "attention")), embedding


def _parts(run: Handoff) -> tuple[Part, ...]:
    found: dict[tuple[str, ...], Part] = {}
    for each in run.tensors:
        name = each.name.split(".", 2)[2] if each.name.startswith("blocks.") else each.name
        names = TIED if each.role is Role.TIED else NAMES[name]
        part = found.setdefault(names, Part(names=names, ours=(name,), values=each, stds=(each.init_std,)))
        _check_equal(part, name, each)
        if name not in part.ours:
            found[names] = replace(part, ours=(*part.ours, name), stds=(*part.stds, each.init_std))
    return tuple(found.values())


def _check_equal(part: Part, name: str, each: Handed) -> None:
    queries = name in part.ours or part.ours[0] == "attention.query.weight"  # whose rows are told apart at the start
    for value in ("init_mean", "lr", "weight_decay", "eps", *(() if queries else ("init_std",))):
        one, other = getattr(part.values, value) or 0.0, getattr(each, value) or 0.0
        if not _close(one, other):
            raise Refused(
                f"{value} of {part.ours[0]} is {one:.6g} and of {name} {other:.6g}, which are one tensor in Megatron,"
                f" {part.names[0].lstrip('*.')}: sweep with sizes whose ratios to the base are equal (base.kv_heads,"
                " base.ffn), or export with param_groups"
            )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9)


def number(value: float) -> float | int:
    """Without the noise of a last bit, and 8 for 8.0."""
    rounded = float(f"{value:.12g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
