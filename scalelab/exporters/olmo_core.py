"""OLMo-core: a Python file with a model, its start, AdamW's groups and a schedule, and `build()`, which makes them one.

Residual and embedding factors have fields there; the softmax scale and the readout's multiplier go into the weights.
Its own init options truncate normals and know no standard deviation of single tensors, so the file fills the model.
"""

import math
import re
import textwrap
from collections.abc import Mapping

from scalelab.errors import Refused
from scalelab.exporters.exporter import Export, Exporter, check_kinds
from scalelab.exporters.fold import folded, notes
from scalelab.exporters.handed import Handed, Handoff
from scalelab.exporters.olmo_core_file import TEMPLATE
from scalelab.exporters.texts import count
from scalelab.hparams import Horizon
from scalelab.models.tensors import NORM_EPS
from scalelab.models.transformer import ROPE_THETA

VERSION = "3.0.0"
FILE = "olmo_recipe.py"

OUTSIDE = {
    "embedding.weight": "embeddings.weight", "norm.gain": "lm_head.norm.weight",
    "readout.weight": "lm_head.w_out.weight",
}  # fmt: skip
IN_BLOCK = {
    "attention.norm": "attention_norm", "attention.query": "attention.w_q", "attention.key": "attention.w_k",
    "attention.value": "attention.w_v", "attention.query_norm": "attention.q_norm",
    "attention.key_norm": "attention.k_norm", "attention.output": "attention.w_out", "mlp.norm": "feed_forward_norm",
    "mlp.gate": "feed_forward.w1", "mlp.up": "feed_forward.w3", "mlp.down": "feed_forward.w2",
}  # fmt: skip


def write(given: Handoff, options: Mapping[str, str]) -> Export:
    """The recipe as a Python file of OLMo-core.

    Raises:
        Refused: what OLMo-core has not: blocks without a gate or of experts, learned positions, scalar gains, an
            optimizer other than AdamW; what cannot be folded.
    """
    _check(given)
    run = folded(given, keep=("embedding", "residual"))
    spec, shape, architecture = run.spec, run.spec.shape, run.spec.architecture
    bfloat16 = spec.dtype == "bfloat16"
    said = (
        *notes(run),
        "OLMo-core shifts labels inside a sequence: of its tokens, as many as GLOBAL_BATCH_SIZE, the last of each"
        " sequence predicts nothing, where each of the proxies' did",
    )
    text = TEMPLATE.format(
        version=VERSION,
        provenance=textwrap.fill(run.provenance, 112),
        module=FILE.removesuffix(".py"),
        notes="\n".join(textwrap.fill(f"Note: {note}.", 112) for note in said),
        context=shape.context,
        batch=spec.horizon.batch_tokens,
        tokens=spec.horizon.tokens,
        steps=spec.horizon.steps,
        seed=spec.seed,
        norm_eps=NORM_EPS,
        gains=architecture.norm_gains == "vector",
        width=shape.width,
        vocab=shape.vocab,
        depth=shape.depth,
        embedding=None if math.isclose(run.embedding, 1.0) else run.embedding,
        tied=architecture.tied_head,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        biases=architecture.biases,
        theta=int(ROPE_THETA),
        qk_norm="norm" if architecture.qk_norm else None,
        head_qk_norm=architecture.qk_norm,
        ffn=shape.ffn,
        residual=run.residual,
        init=_init(run),
        lr=spec.hparams.lr,
        beta1=run.beta1,
        beta2=run.beta2,
        groups=_groups(run),
        schedule=_schedule(run.horizon),
        microbatch=count(options, "sequences", spec.sequences) * shape.context,
        clip=run.clip_norm,
        z_loss=spec.hparams.z_loss or None,
        autocast="DType.bfloat16" if bfloat16 else None,
        dtype_import="from olmo_core.config import DType\n" if bfloat16 else "",
    )
    return Export(files={FILE: text}, notes=said)


def _check(run: Handoff) -> None:
    check_kinds(run, "olmo_core", models=("transformer",), optimizers=("adamw",))
    architecture = run.spec.architecture
    for field, value, accepted, why in (
        ("model.mlp", architecture.mlp, ("swiglu",), "its feed-forwards are gated"),
        ("model.positions", architecture.positions, ("rotary",), "it has no table of positions"),
        ("model.norm_gains", architecture.norm_gains, ("vector", "none"), "its norms have a gain a channel"),
    ):
        if value not in accepted:
            raise Refused(
                f"{field}={value} cannot be said in OLMo-core {VERSION}, {why}: accepted are {', '.join(accepted)};"
                " sweep with one of them, or export to another framework"
            )


def olmo_name(name: str) -> str:
    """OLMo-core's name of a parameter of scalelab's transformer.

    >>> olmo_name("blocks.3.mlp.gate.weight"), olmo_name("blocks.0.attention.norm.gain")
    ('blocks.3.feed_forward.w1.weight', 'blocks.0.attention_norm.weight')
    """
    if name in OUTSIDE:
        return OUTSIDE[name]
    prefix, index, rest = name.split(".", 2)
    module, _, kind = rest.rpartition(".")
    return f"{prefix}.{index}.{IN_BLOCK[module]}.{'weight' if kind == 'gain' else kind}"


def _by_pattern(run: Handoff) -> dict[str, Handed]:
    """One tensor of each pattern: those of all blocks share their values."""
    found: dict[str, Handed] = {}
    for each in run.tensors:
        pattern = re.sub(r"^blocks\.\d+\.", "blocks.*.", olmo_name(each.name))
        first = found.setdefault(pattern, each)
        if (_start(first), _rates(first)) != (_start(each), _rates(each)):
            raise RuntimeError(f"{first.name} and {each.name} match {pattern} and differ")
    return found


def _start(each: Handed) -> tuple[float, float]:
    return each.init_mean, each.init_std


def _rates(each: Handed) -> tuple[float, float, float]:
    assert each.eps is not None  # AdamW's
    return each.lr, each.weight_decay, each.eps


def _init(run: Handoff) -> str:
    return "\n".join(f'    "{pattern}": {_start(each)!r},' for pattern, each in _by_pattern(run).items())


def _groups(run: Handoff) -> str:
    shared: dict[tuple[float, float, float], list[str]] = {}
    for pattern, each in _by_pattern(run).items():
        shared.setdefault(_rates(each), []).append(pattern)
    lines = []
    for (lr, weight_decay, eps), patterns in shared.items():
        lines.append("        OptimGroupOverride(\n            params=[")
        lines += [f'                "{pattern}",' for pattern in patterns]
        opts = f'{{"lr": {lr!r}, "weight_decay": {weight_decay!r}, "eps": {eps!r}}}'
        lines.append(f"            ],\n            opts={opts},\n        ),")
    return "\n".join(lines)


def _schedule(horizon: Horizon) -> str:
    """Factors on each group's own learning rate, equal to `Horizon.lr_factor`: OLMo-core counts steps from 1."""
    start, fall = horizon.decay_start, horizon.steps - horizon.decay_start
    warmup = horizon.warmup_steps
    risen = f"schedulers.ConstantWithWarmup(warmup={warmup})" if warmup else "schedulers.ConstantScheduler()"
    if horizon.schedule == "constant" or fall == 0:
        return f"scheduler = {risen}"
    name = "CosWithWarmup" if horizon.schedule == "cosine" else "LinearWithWarmup"
    return (
        "# In two parts, so that the fall starts at the step, and ends at the factor, that the proxies' had.\n"
        "scheduler = schedulers.SequentialScheduler(\n"
        f"    schedulers=[\n        {risen},\n"
        f"        schedulers.{name}(warmup=0, t_max={fall}, alpha_f={horizon.final_lr_ratio!r}),\n    ],\n"
        f"    schedulers_max=[{start + 1}],\n)"
    )


EXPORTER = Exporter(
    title="OLMo-core: a Python file with model, start, AdamW's groups, schedule and train module",
    checked=f"ai2-olmo-core {VERSION}: built, values read back, 20 steps in float64 equal to scalelab's",
    write=write,
    options={"sequences": ("1", "sequences a rank takes at once; divides those of a step")},
    expresses="every tensor's start, lr, weight decay and eps; embedding and residual factors; tied tables, biases,"
    " QK-norm, z-loss; each schedule step for step",
    folds="softmax scale into the queries or their norm's gain; the readout's multiplier into it, or into the last gain"
    " where tables are tied",
    refuses="MLPs other than SwiGLU, learned positions, scalar gains, experts, optimizers other than AdamW",
)
