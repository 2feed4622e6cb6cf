"""A recipe for Megatron-LM: its command line, by its own muP where that is the recipe's, and overrides for the rest.

Megatron-LM has multipliers for embedding, logits and softmax, one std for hidden matrices, and a learning rate and eps
that its muP divides by the ratio of widths. What its flags do not say goes through its `config_overrides` (a learning
rate, weight decay or eps of a parameter) and a factor on what it drew at initialization; the factor of residual
branches is folded.
"""

from collections.abc import Mapping

from scalelab.errors import Refused
from scalelab.exporters.exporter import Export, Exporter, check_kinds
from scalelab.exporters.fold import notes as fold_notes
from scalelab.exporters.handed import Handoff
from scalelab.exporters.megatron_files import files
from scalelab.exporters.megatron_flags import MLPS, flags
from scalelab.exporters.megatron_parts import Plan, planned

EMERGING = ("muon", "adamw_muon", "lion", "soap")
SMALL_EPS = 1e-9


def write(run: Handoff, options: Mapping[str, str]) -> Export:
    """megatron_args.sh and scalelab_overrides.py; `Refused` where Megatron-LM has no words for the recipe."""
    check(run)
    plan = planned(run)
    found = notes(plan)
    return Export(files=files(plan, flags(plan, options), found), notes=found)


def check(run: Handoff) -> None:
    """`Refused` on what neither a flag nor an override says."""
    architecture = run.spec.architecture
    if run.spec.optimizer in EMERGING:
        raise Refused(
            f"no export of optimizer={run.spec.optimizer} to megatron: Megatron-LM's comes from the package"
            " emerging_optimizers, which no package index has, so nothing of it was held against the recipe; accepted"
            " are adamw, sgd"
        )
    check_kinds(run, "megatron", models=("transformer",), optimizers=("adamw", "sgd"))
    if architecture.mlp not in MLPS:
        raise Refused(f"model.mlp={architecture.mlp} has no flag in Megatron-LM: accepted are {', '.join(MLPS)}")
    if architecture.norm_gains == "scalar":
        raise Refused("model.norm_gains=scalar: Megatron-LM's norms have a gain a channel; accepted are vector, none")
    if architecture.norm_gains == "none" and run.clip_norm is not None:
        raise Refused(
            "model.norm_gains=none with optimizer.clip_norm: Megatron-LM's gains can be held at 1, but their gradients"
            " count in the norm that is clipped; sweep with optimizer.clip_norm=null or model.norm_gains=vector"
        )
    if run.spec.hparams.z_loss:
        raise Refused(f"z_loss={run.spec.hparams.z_loss:g}: Megatron-LM has one for routers only; sweep with z_loss=0")


def notes(plan: Plan) -> tuple[str, ...]:
    """What a reader has to know that no number says."""
    run = plan.run
    found = [
        "the first step is at learning rate 0 and warmup one step behind the proxies', as Megatron-LM counts; after"
        " warmup the schedules are equal step by step"
    ] if run.horizon.warmup_steps else []  # fmt: skip
    smallest = min((each.eps for each in run.tensors if each.eps is not None), default=1.0)
    if smallest < SMALL_EPS:
        found.append(
            f"the smallest eps is {smallest:.3g}: it counts only while the optimizer's moments are float32"
            " (--exp-avg-sq-dtype fp32, the default), and is nothing beside gradients in float16"
        )
    return (*found, *fold_notes(run))


EXPORTER = Exporter(
    title="Megatron-LM: megatron_args.sh, an array of flags, and scalelab_overrides.py for what no flag says",
    checked="megatron-core 0.19.2: every flag by its own parser; init, parameter groups, schedule and 20 steps in"
    " float64 of its GPTModel (local layers, CPU)",
    write=write,
    options={
        "micro_batch_size": ("1", "sequences a GPU takes at once"),
        "tensor_parallel": ("1", "GPUs that share each matrix"),
        "pipeline_parallel": ("1", "GPUs that share the layers"),
        "precision": ("recipe", "bf16 or fp32, or that of the recipe"),
    },
    expresses="its own muP where the table's rules are Megatron's; lr, weight decay and eps of every parameter by"
    " config_overrides, its std by a factor; multipliers of embedding, logits, softmax",
    folds="the factor of residual branches, multipliers of other tensors",
    refuses="Muon, Lion and SOAP (emerging_optimizers), mixtures of experts, one gain a norm, z-loss, what differs"
    " among queries, keys and values or gate and up",
)
