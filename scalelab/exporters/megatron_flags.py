"""The command line of a plan: what Megatron-LM's flags say, with where each number comes from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scalelab.errors import Refused
from scalelab.exporters.handed import Handoff
from scalelab.exporters.megatron_parts import Plan, number
from scalelab.exporters.texts import count, interval
from scalelab.models.tensors import NORM_EPS
from scalelab.models.transformer import ROPE_THETA

STYLES = {"constant": "constant", "linear": "linear", "cosine": "cosine", "wsd": "WSD"}
MLPS = {"swiglu": ("--swiglu",), "squared_relu": ("--squared-relu",), "gelu": ("--no-bias-gelu-fusion",)}
PRECISIONS = ("recipe", "bf16", "fp32")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag with its value (None: a switch), and where it comes from."""

    name: str
    value: float | int | str | None = None
    why: str = ""

    @property
    def text(self) -> str:
        return self.name if self.value is None else f"{self.name} {self.value}"


def flags(plan: Plan, options: Mapping[str, str]) -> dict[str, list[Flag]]:
    """Flags by section, in the order of a file; `Refused` on options that do not fit the run."""
    return {
        "shape: the target": _shape(plan),
        "multipliers and init: its own muP" if plan.ratio != 1 else "multipliers and init": _start(plan),
        "optimizer: at the base, and moved by --use-mup" if plan.ratio != 1 else "optimizer": _optimizer(plan),
        "horizon: iterations, and sequences an iteration": _horizon(plan),
        "this cluster: not the recipe's": _machine(plan, options),
    }


def _shape(plan: Plan) -> list[Flag]:
    shape, architecture = plan.run.spec.shape, plan.run.spec.architecture
    found = [
        Flag(name="--num-layers", value=shape.depth, why="depth"),
        Flag(name="--hidden-size", value=shape.width, why="width"),
        Flag(name="--ffn-hidden-size", value=shape.ffn, why="ffn"),
        Flag(name="--num-attention-heads", value=shape.heads, why="heads"),
        Flag(name="--kv-channels", value=shape.head_dim, why="head_dim"),
    ]
    if shape.kv_heads != shape.heads:
        found += [Flag(name="--group-query-attention"),
                  Flag(name="--num-query-groups", value=shape.kv_heads, why="kv_heads")]  # fmt: skip
    found += [
        Flag(name="--seq-length", value=shape.context, why="context"),
        Flag(name="--max-position-embeddings", value=shape.context),
        Flag(name="--vocab-size", value=shape.vocab, why="vocab: the tokenizer's"),
        Flag(name="--padded-vocab-size", value=shape.vocab, why="rows beside it would count in the softmax"),
        *(Flag(name=each, why="model.mlp") for each in MLPS[architecture.mlp]),
        Flag(name="--normalization", value="RMSNorm"),
        Flag(name="--norm-epsilon", value=NORM_EPS, why="its default is 1e-5"),
    ]
    if architecture.positions == "learned":
        found.append(Flag(name="--position-embedding-type", value="learned_absolute"))
    else:
        found += [Flag(name="--position-embedding-type", value="rope"),
                  Flag(name="--rotary-base", value=int(ROPE_THETA))]  # fmt: skip
    switches = {
        "--qk-layernorm": architecture.qk_norm,
        "--disable-bias-linear": not architecture.biases,
        "--untie-embeddings-and-output-weights": not architecture.tied_head,
    }
    found += [Flag(name=name) for name, on in switches.items() if on]
    return [*found, Flag(name="--attention-dropout", value=0), Flag(name="--hidden-dropout", value=0)]


def _start(plan: Plan) -> list[Flag]:
    spec, found = plan.run.spec, []
    if plan.base_hidden is not None:
        own = "base.width" if plan.ratio != 1 else "no ratio of widths: for the multipliers only, all rates are below"
        # √base_head_dim / head_dim is the softmax scale: any scale, by the number for base_head_dim.
        head = (plan.run.attention * spec.shape.head_dim) ** 2
        at_base = "base.head_dim" if math.isclose(head, spec.base.head_dim) else "for"
        found += [
            Flag(name="--use-mup"),
            Flag(name="--mup-base-hidden-size", value=plan.base_hidden, why=own),
            Flag(name="--mup-embedding-mult", value=number(plan.embedding), why="multiplier of the embedding"),
            Flag(name="--mup-output-mult", value=number(plan.logits), why="multiplier of the logits"),
            Flag(name="--mup-base-head-dim", value=number(head),
                 why=f"{at_base}: softmax scale {plan.run.attention:.6g} = √this / head_dim"),
            Flag(name="--mup-attn-scale-power", value=1.0),
        ]  # fmt: skip
    root = "; of hidden matrices, and by √(width ratio) smaller" if plan.ratio != 1 else "; of queries, keys, values"
    return [
        *found,
        Flag(name="--init-method-std", value=number(plan.std), why=f"init.gain/√fan_in{root}"),
        Flag(name="--embedding-init-method-std", value=number(plan.embedding_std), why="init.embedding_std"),
    ]


def _optimizer(plan: Plan) -> list[Flag]:
    run, hparams = plan.run, plan.run.spec.hparams
    lr = run.recipe.lr
    found = [
        Flag(name="--lr", value=number(plan.lr), why=f"{lr.kind}, {interval(lr.low, lr.high)}"),
        Flag(name="--min-lr", value=number(plan.lr * run.horizon.final_lr_ratio), why=_why(run, "final_lr_ratio")),
        Flag(
            name="--weight-decay", value=number(plan.weight_decay), why=_why(run, "weight_decay", "its default is 0.01")
        ),
    ]
    if plan.eps is not None:
        found = [
            Flag(name="--optimizer", value="adam", why="decoupled weight decay: AdamW"),
            *found,
            Flag(name="--adam-beta1", value=number(run.beta1), why=_why(run, "beta1")),
            Flag(name="--adam-beta2", value=number(run.beta2), why=_why(run, "beta2", "its default is 0.999")),
            Flag(name="--adam-eps", value=number(plan.eps), why=_why(run, "eps")),
        ]
    else:
        found = [Flag(name="--optimizer", value="sgd"), *found,
                 Flag(name="--sgd-momentum", value=number(hparams.momentum))]  # fmt: skip
    clip = 0.0 if run.clip_norm is None else run.clip_norm
    return [
        *found,
        Flag(
            name="--clip-grad",
            value=number(clip),
            why=_why(run, "clip_norm", "" if clip else "not at all: its default is 1.0"),
        ),
    ]


def _horizon(plan: Plan) -> list[Flag]:
    spec, horizon = plan.run.spec, plan.run.horizon
    if horizon.warmup_steps >= horizon.steps:
        raise Refused(
            f"warmup of {horizon.warmup_steps} of {horizon.steps} steps: Megatron wants it shorter than the run; sweep"
            " with a smaller warmup_fraction"
        )
    style = "constant" if horizon.decay_start == horizon.steps else STYLES[horizon.schedule]
    found = [
        Flag(name="--train-iters", value=horizon.steps, why=_why(plan.run, "tokens", f"{horizon.tokens} tokens")),
        Flag(name="--global-batch-size", value=spec.sequences,
             why=_why(plan.run, "batch_tokens", f"{horizon.batch_tokens} tokens, sequences of {spec.shape.context}")),
        Flag(name="--lr-decay-style", value=style, why=_why(plan.run, "schedule")),
        Flag(name="--lr-decay-iters", value=horizon.steps),
        Flag(name="--lr-warmup-iters", value=horizon.warmup_steps, why=_why(plan.run, "warmup")),
    ]  # fmt: skip
    if style == "WSD":
        found += [
            Flag(name="--lr-wsd-decay-style", value="linear", why="its default is exponential"),
            Flag(name="--lr-wsd-decay-iters", value=horizon.steps - horizon.decay_start),
        ]
    return [*found, Flag(name="--seed", value=spec.seed + 1, why="the recipe's, counted from 1: it takes no 0")]


def _machine(plan: Plan, options: Mapping[str, str]) -> list[Flag]:
    spec = plan.run.spec
    micro, tensor, pipeline = (count(options, name) for name in ("micro_batch_size", "tensor_parallel",
                                                                  "pipeline_parallel"))  # fmt: skip
    for name, size, total, what in (
        ("micro_batch_size", micro, spec.sequences, "sequences a step"),
        ("tensor_parallel", tensor, spec.shape.kv_heads, "key and value heads"),
        ("tensor_parallel", tensor, spec.shape.vocab, "entries of the vocabulary"),
        ("pipeline_parallel", pipeline, spec.shape.depth, "layers"),
    ):
        if total % size:
            raise Refused(f"{name}={size} does not divide the {total} {what}: accepted are divisors of {total}")
    if options["precision"] not in PRECISIONS:
        raise Refused(f"precision={options['precision']}: accepted are {', '.join(PRECISIONS)}")
    bf16 = options["precision"] == "bf16" or (options["precision"] == "recipe" and spec.dtype == "bfloat16")
    return [
        Flag(name="--micro-batch-size", value=micro),
        Flag(name="--tensor-model-parallel-size", value=tensor),
        Flag(name="--pipeline-model-parallel-size", value=pipeline),
        *([Flag(name="--bf16")] if bf16 else []),
    ]


def _why(run: Handoff, name: str, more: str = "") -> str:
    """Where a number of the recipe comes from, with its interval, and what else is to be known."""
    value = next((each for each in run.recipe.values if each.name == name), None)
    if value is None:
        return more
    bounds = "" if value.low is None or value.high is None else f", {interval(value.low, value.high)}"
    return "; ".join(each for each in (f"{name}: {value.source}{bounds}", more) if each)
