"""A Python recipe for torchtitan: the model with its initial values, parameter groups, schedule, batch.

torchtitan has no multipliers, so all are folded. Queries, keys and values stay three matrices: only queries take the
softmax scale's factor, or queries' and keys' norms half of it each, which torchtitan starts alike.
"""

import json
import re
import textwrap
from collections.abc import Iterable, Mapping

from scalelab.errors import Refused
from scalelab.exporters import fold
from scalelab.exporters.exporter import Export, Exporter, check_kinds
from scalelab.exporters.handed import Handed, Handoff
from scalelab.exporters.texts import count
from scalelab.exporters.torchtitan_file import TEMPLATE
from scalelab.hparams import Horizon
from scalelab.models.tensors import NORM_EPS
from scalelab.models.transformer import ROPE_THETA

NAMES = {  # ours → theirs; those of a block without its number
    "embedding": "tok_embeddings", "readout": "lm_head", "norm": "norm",
    "attention.norm": "attention_norm", "mlp.norm": "ffn_norm",
    "attention.query_norm": "attention.q_norm", "attention.key_norm": "attention.k_norm",
    "attention.query": "attention.qkv_linear.wq", "attention.key": "attention.qkv_linear.wk",
    "attention.value": "attention.qkv_linear.wv", "attention.output": "attention.wo",
    "mlp.gate": "feed_forward.w1", "mlp.up": "feed_forward.w3", "mlp.down": "feed_forward.w2",
}  # fmt: skip
ARCHITECTURE = {"mlp": "swiglu", "positions": "rotary", "norm_gains": "vector"}
BACKENDS = ("flex", "flex_flash", "varlen")


def name_of(ours: str) -> str:
    """The name of a parameter in torchtitan's models.

    >>> name_of("blocks.3.attention.query.weight"), name_of("norm.gain")
    ('layers.3.attention.qkv_linear.wq.weight', 'norm.weight')
    """
    layer = re.match(r"blocks\.(\d+)\.", ours)
    stem, _, kind = ours[layer.end() if layer else 0 :].rpartition(".")
    theirs = f"{NAMES[stem]}.{'weight' if kind == 'gain' else kind}"
    return f"layers.{layer[1]}.{theirs}" if layer else theirs


def write(given: Handoff, options: Mapping[str, str]) -> Export:
    """`torchtitan_recipe.py`."""
    _check(given, options)
    run = fold.folded(given, both=given.spec.architecture.qk_norm)
    notes = (*fold.notes(run), *_notes(run))
    return Export(files={"torchtitan_recipe.py": _text(run, options, notes)}, notes=notes)


def _check(run: Handoff, options: Mapping[str, str]) -> None:
    check_kinds(run, "torchtitan", models=("transformer",), optimizers=("adamw",))
    for name, accepted in ARCHITECTURE.items():
        if (value := getattr(run.spec.architecture, name)) != accepted:
            raise Refused(f"model.{name}={value} has no place in torchtitan's models: accepted is {accepted}")
    if run.spec.hparams.z_loss:
        raise Refused(f"z_loss={run.spec.hparams.z_loss:g} has no place in torchtitan's loss: accepted is 0")
    if options["attn_backend"] not in BACKENDS:
        raise Refused(f"attn_backend={options['attn_backend']}: accepted are {', '.join(BACKENDS)}")


def _text(run: Handoff, options: Mapping[str, str], notes: Iterable[str]) -> str:
    spec, shape, horizon = run.spec, run.spec.shape, run.horizon
    qwen = spec.architecture.qk_norm  # torchtitan's Llama has no place for it
    one = _alike(run)

    def std(name: str) -> float:
        return one[f"{name}.weight"].init_std

    def gain(name: str) -> float:
        return one[f"{name}.gain"].init_mean

    return TEMPLATE.format(
        provenance=run.provenance,
        notes="\n".join(textwrap.fill(f"Note: {note}.", 118) for note in notes),
        module="qwen3" if qwen else "llama3",
        parallelize="qwen3" if qwen else "llama",
        model="Qwen3" if qwen else "Llama3",
        rope="CosSinRoPE" if qwen else "ComplexRoPE",
        vocab=shape.vocab, width=shape.width, depth=shape.depth, ffn=shape.ffn, context=shape.context,
        heads=shape.heads, kv_heads=shape.kv_heads, head_dim=shape.head_dim,
        biases=spec.architecture.biases, tied=spec.architecture.tied_head,
        norm_eps=NORM_EPS, theta=ROPE_THETA,
        embedding=std("embedding"), query=std("attention.query"), key_value=std("attention.key"),
        output=std("attention.output"), gate=std("mlp.gate"), up=std("mlp.up"), down=std("mlp.down"),
        readout="table" if spec.architecture.tied_head else repr(std("readout")),
        attention_norm=gain("attention.norm"), mlp_norm=gain("mlp.norm"), last_norm=gain("norm"),
        qk_norm=f"norm(HEAD_DIM, gain={gain('attention.query_norm')!r})" if qwen else None,
        beta1=run.beta1, beta2=run.beta2, groups=_groups(one),
        warmup_steps=horizon.warmup_steps, steps=horizon.steps,
        decay_ratio=_decay_ratio(horizon),
        decay_type="cosine" if horizon.schedule == "cosine" else "linear", min_lr=horizon.final_lr_ratio,
        sequences=spec.sequences, batch_tokens=f"{horizon.batch_tokens:,}",
        max_norm='float("inf")' if run.clip_norm is None else repr(run.clip_norm),
        dtype=spec.dtype, local_batch_size=count(options, "local_batch_size", spec.sequences), seed=spec.seed,
        **{name: json.dumps(options[name], ensure_ascii=False)
           for name in ("dataset", "hf_assets_path", "attn_backend")},
    )  # fmt: skip


def _decay_ratio(horizon: Horizon) -> float | None:
    """The part of the steps over which the learning rate falls; None: all after the warmup."""
    if horizon.schedule == "wsd":
        return (horizon.steps - horizon.decay_start) / horizon.steps
    return 0.0 if horizon.schedule == "constant" else None


def _alike(run: Handoff) -> dict[str, Handed]:
    """One tensor of each place by its name without the block's number: in all blocks, and in both of a pair that
    torchtitan starts by one rule, the values are the same, or it is a bug.
    """
    found: dict[str, Handed] = {}
    for each in run.tensors:
        first = found.setdefault(re.sub(r"^blocks\.\d+\.", "", each.name), each)
        if _values(first) != _values(each):
            raise RuntimeError(f"{first.name} and {each.name} have other values")
    for one, other in (("attention.key.weight", "attention.value.weight"),
                       ("attention.query_norm.gain", "attention.key_norm.gain")):  # fmt: skip
        if one in found and _start(found[one]) != _start(found[other]):
            raise RuntimeError(f"{one} and {other} start otherwise")
    return found


def _values(each: Handed) -> tuple[object, ...]:
    return (*_start(each), each.lr, each.weight_decay, each.eps)


def _start(each: Handed) -> tuple[float, float]:
    return each.init_mean, each.init_std


def _groups(one: Mapping[str, Handed]) -> str:
    shared: dict[tuple[float, float, float | None], list[str]] = {}
    for name, each in one.items():
        shared.setdefault((each.lr, each.weight_decay, each.eps), []).append(name_of(name))
    lines = []
    for (lr, weight_decay, eps), names in shared.items():
        quoted = "".join(f'        "{name}",\n' for name in names)
        lines.append(
            f"    group(\n{quoted}        lr={lr!r}, weight_decay={weight_decay!r}, eps={eps!r},\n    ),  # fmt: skip"
        )
    return "\n".join(lines)


def _notes(run: Handoff) -> Iterable[str]:
    yield "attention is masked between the documents of a sequence; scalelab's goes over their borders"
    yield "each group has to match a parameter in every pipeline stage: leave pipeline_parallel_degree at 1"
    if not run.spec.architecture.qk_norm:
        yield "rotary pairs are neighbours here, and halves of a head in scalelab: the channels' order, no more"


EXPORTER = Exporter(
    title="torchtitan_recipe.py: a function that returns a Trainer.Config",
    checked="torchtitan 0.3.0, torch 2.13: its model, optimizers and scheduler; 20 steps in float64",
    write=write,
    options={
        "local_batch_size": ("1", "sequences a data-parallel rank and microbatch"),
        "dataset": ("c4", "of torchtitan's data loader"),
        "hf_assets_path": ("./assets/hf/tokenizer", "folder of the tokenizer"),
        "attn_backend": ("flex", "flex, flex_flash or varlen"),
    },
    expresses="init, lr, weight decay and eps of every tensor, betas, schedule, batch, clipping, biases, QK-norm",
    folds="every multiplier",
    refuses="other optimizers than adamw, other MLPs than swiglu, learned positions, scalar gains, z-loss",
)
