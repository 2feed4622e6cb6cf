"""The model classes of transformers that are the proxies' network, and what each can hold of its multipliers.

The same word means different things there: `logits_scaling` divides in Granite and multiplies in HyperCLOVA X. So each
class has its entry, read from its source, and each entry is held against scalelab's own training.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.exporters.fold import folded, times
from scalelab.exporters.handed import Handed, Handoff
from scalelab.models import inventory
from scalelab.models.tensors import NORM_EPS
from scalelab.models.transformer import ROPE_THETA
from scalelab.parametrizations.table import Family, Role
from scalelab.shape import Architecture

LOGITS = (Role.READOUT, Role.TIED)
HOLDS = {
    "embedding": "embedding_multiplier",
    "attention": "attention_multiplier",
    "residual": "residual_multiplier",
    "logits": "logits_scaling",
}


@dataclass(frozen=True, kw_only=True)
class ModelClass:
    """A class of transformers, by its `name` there.

    `mlp` are the MLPs that it can have; `qk_norm` says that it norms queries and keys, as it always or never does;
    `biases` that all linear layers of its blocks can have one. `holds` are keys of config.json by what they multiply;
    a key in `divides` is divided by. `fixed` is what else config.json must say.
    """

    name: str
    mlp: tuple[str, ...] = ("swiglu",)
    qk_norm: bool = False
    biases: bool = True
    holds: Mapping[str, str] = field(default_factory=dict)
    divides: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def lacks(self, architecture: Architecture) -> tuple[str, ...]:
        """What of an architecture it does not have, as settings of conf/train.yaml."""
        missing = []
        if architecture.mlp not in self.mlp:
            missing.append(f"model.mlp={architecture.mlp}")
        if architecture.qk_norm != self.qk_norm:
            missing.append(f"model.qk_norm={str(architecture.qk_norm).lower()}")
        if architecture.biases and not self.biases:
            missing.append("model.biases=true")
        return tuple(missing)


# By model_type; "auto" is the first that fits, so those that hold every multiplier come first.
CLASSES: dict[str, ModelClass] = {
    "granite": ModelClass(name="GraniteForCausalLM", holds=HOLDS, divides=("logits_scaling",)),
    "hyperclovax": ModelClass(name="HyperCLOVAXForCausalLM", holds=HOLDS, fixed={"use_post_norm": False}),
    "llama": ModelClass(name="LlamaForCausalLM"),
    "qwen3": ModelClass(name="Qwen3ForCausalLM", qk_norm=True, biases=False),
    "arcee": ModelClass(name="ArceeForCausalLM", mlp=("gelu", "relu", "squared_relu")),
}

# Classes with multipliers, or near to the proxies, that are another network after all.
OTHERS: dict[str, str] = {
    "cohere": "its norms subtract a mean, and attention and MLP of a block read the same one",
    "falcon_h1": "its blocks have a state-space branch beside attention",
    "gemma2": "it norms what its branches put out, too",
    "gpt2": "its norms subtract a mean",
    "minicpm3": "its attention is latent, through matrices of low rank",
    "mixtral": "its load balancing pools the layers, the proxies' is a mean over them: another loss",
    "olmo2": "it norms what its branches put out, not what they read",
    "qwen2": "it has biases on queries, keys and values alone",
}
ACTIVATIONS = {"swiglu": "silu", "gelu": "gelu", "relu": "relu", "squared_relu": "relu2"}


def chosen(architecture: Architecture, asked: str) -> str:
    """The model_type for an architecture: the one `asked` for, or with "auto" the first that has it.

    Raises:
        Refused: on an unknown class, one that is another network, an architecture that it, or all of them, lack.
    """
    if asked in OTHERS:
        raise Refused(f"no export to model={asked}: {OTHERS[asked]}; accepted are auto, {', '.join(CLASSES)}")
    if asked not in ("auto", *CLASSES):
        raise unknown("model", asked, ("auto", *CLASSES))
    if architecture.positions != "rotary":
        raise Refused(
            "model.positions=learned in transformers: classes with learned positions have norms that subtract a mean;"
            " sweep with model.positions=rotary"
        )
    if architecture.norm_gains == "scalar":
        raise Refused(
            "model.norm_gains=scalar in transformers: its norms have a gain for each channel; sweep with"
            " model.norm_gains=vector, or none"
        )
    fits = [name for name, each in CLASSES.items() if not each.lacks(architecture)]
    if not fits:
        together = f"mlp={architecture.mlp}, qk_norm={architecture.qk_norm}, biases={architecture.biases}".lower()
        raise Refused(
            f"no class of transformers here has {together} together: accepted are qk_norm=false, or qk_norm=true with"
            " mlp=swiglu and biases=false"
        )
    if asked != "auto" and asked not in fits:
        lacking = " and ".join(CLASSES[asked].lacks(architecture))
        raise Refused(f"{lacking} does not go with model={asked}: accepted are auto, {', '.join(fits)}")
    return fits[0] if asked == "auto" else asked


def adapted(given: Handoff, entry: ModelClass) -> tuple[Handoff, frozenset[str]]:
    """The run with what the class cannot hold folded into its weights, and which gains are not to be trained.

    Norms of transformers have gains: a run without them is one whose gains stay where they start.
    """
    run, still = _with_gains(given)
    keep = set(entry.holds)
    if "logits" in keep:
        run, keep = _own_multipliers(run), (keep - {"logits"}) | {"tensors"}
    return folded(run, keep=keep), still


def _with_gains(run: Handoff) -> tuple[Handoff, frozenset[str]]:
    if run.spec.architecture.norm_gains != "none":
        return run, frozenset()
    spec = replace(run.spec, architecture=replace(run.spec.architecture, norm_gains="vector"))
    tensors, there = [], run.by_name
    for tensor in inventory(spec):
        still = Handed(
            tensor=tensor, family=Family.ADAM, init_mean=1.0, init_std=0.0, multiplier=1.0, lr=0.0, weight_decay=0.0,
            eps=None,
        )  # fmt: skip
        tensors.append(there.get(tensor.name, still))
    names = frozenset(each.name for each in tensors) - there.keys()
    return replace(run, spec=spec, tensors=tuple(tensors)), names


def _own_multipliers(run: Handoff) -> Handoff:
    """Those of single tensors folded, but for that of the logits."""
    moved = [each for each in run.tensors if each.role not in LOGITS and each.multiplier != 1.0]
    if not moved:
        return run
    tensors = tuple(replace(times(e, e.multiplier), multiplier=1.0) if e in moved else e for e in run.tensors)
    return replace(run, tensors=tensors, folded=(*run.folded, f"multipliers of {len(moved)} tensors"))


def config(run: Handoff, model_type: str) -> dict[str, Any]:
    """config.json of an adapted run."""
    entry, shape, architecture = CLASSES[model_type], run.spec.shape, run.spec.architecture
    factors = {"embedding": run.embedding, "attention": run.attention, "residual": run.residual}
    factors["logits"] = next(each.multiplier for each in run.tensors if each.role in LOGITS)
    held = {key: 1 / factors[place] if key in entry.divides else factors[place] for place, key in entry.holds.items()}
    return {
        "architectures": [entry.name],
        "model_type": model_type,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "hidden_size": shape.width,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": ACTIVATIONS[architecture.mlp],
        "rms_norm_eps": NORM_EPS,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "tie_word_embeddings": architecture.tied_head,
        "attention_bias": architecture.biases,
        **({"mlp_bias": architecture.biases} if entry.biases else {}),
        "attention_dropout": 0.0,
        **held,
        **entry.fixed,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "dtype": "float32",
    }


NAMES = {
    "embedding": "model.embed_tokens", "readout": "lm_head", "norm": "model.norm",
    "attention.norm": "input_layernorm", "mlp.norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj", "attention.value": "self_attn.v_proj",
    "attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm",
    "attention.output": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
}  # fmt: skip


def theirs(name: str) -> str:
    """The name of a tensor in transformers.

    >>> theirs("blocks.3.attention.query_norm.gain"), theirs("readout.weight")
    ('model.layers.3.self_attn.q_norm.weight', 'lm_head.weight')
    """
    module, _, kind = name.rpartition(".")
    kind = "weight" if kind == "gain" else kind
    if found := re.fullmatch(r"blocks\.(\d+)\.(.+)", module):
        return f"model.layers.{found[1]}.{NAMES[found[2]]}.{kind}"
    return f"{NAMES[module]}.{kind}"
