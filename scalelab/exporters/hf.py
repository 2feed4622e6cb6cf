"""Hugging Face transformers: config.json, the arguments of its Trainer, and what those two cannot say in files beside.

A config has one initializer_range and TrainingArguments one learning rate, so the values of single tensors are those of
`param_groups`, in the names of transformers; scalelab_hf.py hands them to Trainer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scalelab.errors import Refused
from scalelab.exporters import fold, param_groups
from scalelab.exporters.exporter import Export, Exporter, check_kinds
from scalelab.exporters.handed import Handed, Handoff
from scalelab.exporters.hf_classes import CLASSES, adapted, chosen, config, theirs
from scalelab.exporters.texts import count, json_text
from scalelab.hparams import Horizon

OPTIMIZERS = {"adamw": "adamw_torch", "sgd": "sgd"}  # TrainingArguments.optim
SOURCE = Path(__file__).with_name("hf_file.py")
ROWS = "per_device_train_batch_size"
BESIDE = "from scalelab.exporters import param_groups_file as param_groups"


def write(given: Handoff, options: Mapping[str, str]) -> Export:
    """config.json, training_args.json, scalelab_hf.py, and param_groups.py with its JSON."""
    check_kinds(given, "hf", models=("transformer",), optimizers=OPTIMIZERS)
    model_type = chosen(given.spec.architecture, options["model"])
    run, held = adapted(given, CLASSES[model_type])
    named = replace(run, tensors=tuple(_named(each) for each in run.tensors))
    names = [each.name for each in named.tensors]
    arguments = training_arguments(given, options)
    notes = (*_notes(given, arguments), *fold.notes(run))
    record = {
        **param_groups.record(named, notes),
        "held": param_groups.patterns([theirs(name) for name in held], names),
    }
    head = f"# {given.provenance}\n"
    return Export(
        files={
            "config.json": json_text(config(run, model_type)),
            "training_args.json": json_text(arguments),
            "scalelab_hf.py": head + SOURCE.read_text().replace(BESIDE, "import param_groups"),
            "param_groups.py": head + param_groups.SOURCE.read_text(),
            "param_groups.json": json_text(record),
        },
        notes=notes,
    )


def _named(each: Handed) -> Handed:
    return replace(each, tensor=replace(each.tensor, name=theirs(each.name)))


def training_arguments(run: Handoff, options: Mapping[str, str]) -> dict[str, Any]:
    """The keyword arguments of TrainingArguments; of what groups have each of their own, the base's.

    Raises:
        Refused: where the sequences of a step do not divide by the processes and their batches.
    """
    spec, hparams, horizon = run.spec, run.spec.hparams, run.horizon
    world = count(options, "world_size")
    rows = None if options[ROWS] == "all" else count(options, ROWS)
    if spec.sequences % (world * (rows or 1)):
        raise Refused(
            f"world_size={world} with {ROWS}={options[ROWS]}: {world * (rows or 1)} does not divide the"
            f" {spec.sequences} sequences of a step; accepted are divisors"
        )
    rows = rows or spec.sequences // world
    name, kwargs = schedule(horizon, hparams.lr)
    adam = {"adam_beta1": run.beta1, "adam_beta2": run.beta2, "adam_epsilon": hparams.eps}
    return {
        "output_dir": "trained",
        "max_steps": horizon.steps,
        ROWS: rows,
        "gradient_accumulation_steps": spec.sequences // (world * rows),
        "optim": OPTIMIZERS[spec.optimizer],
        "learning_rate": hparams.lr,
        "weight_decay": hparams.weight_decay,
        **(adam if spec.optimizer == "adamw" else {}),
        "max_grad_norm": hparams.clip_norm or 0.0,  # 0 clips nothing there
        "warmup_steps": horizon.warmup_steps,
        "lr_scheduler_type": name,
        "lr_scheduler_kwargs": kwargs,
        "bf16": spec.dtype == "bfloat16",
        "seed": spec.seed,
    }


def schedule(horizon: Horizon, lr: float) -> tuple[str, dict[str, Any]]:
    """The schedule of transformers that is the same from the end of warmup on, as (lr_scheduler_type, its kwargs).

    In warmup it is at step/warmup, where ours is at (step + 1)/warmup; warmup_stable_decay begins at its floor.
    """
    floor = horizon.final_lr_ratio
    if horizon.schedule == "constant" or floor == 1.0 or horizon.decay_start == horizon.steps:
        return "constant_with_warmup", {}
    if horizon.schedule == "cosine":
        return "cosine_with_min_lr", {"min_lr_rate": floor}
    if horizon.schedule == "linear":
        return "polynomial", {"lr_end": lr * floor, "power": 1.0}
    falling = horizon.steps - horizon.decay_start
    return "warmup_stable_decay", {"num_decay_steps": falling, "decay_type": "linear", "min_lr_ratio": floor}


def _notes(run: Handoff, arguments: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "training_args.json alone is not the recipe, it has one learning rate for all tensors: give Trainer the"
        " optimizers of scalelab_hf.py"
    )
    yield (
        f"rows of the data are {run.spec.shape.context + 1} tokens, as input_ids and as labels, which transformers"
        " shifts"
    )
    if run.horizon.warmup_steps:
        yield (
            f"lr_scheduler_type={arguments['lr_scheduler_type']} is exact only after warmup; the scheduler of"
            " scalelab_hf.py, which takes its place, is exact"
        )
    if z_loss := run.spec.hparams.z_loss:
        yield f"a model's own loss has no z-loss, here {z_loss:g}: give Trainer **scalelab_hf.loss(), too"


EXPORTER = Exporter(
    title="transformers: config.json, TrainingArguments, optimizer and schedule for its Trainer",
    checked="transformers 5.24.0, accelerate 1.15.0, torch 2.13.0: its TrainingArguments, schedules and Trainer;"
    " 20 steps in float64 of each model class",
    write=write,
    options={
        "model": ("auto", f"the model class: {', '.join(CLASSES)}; auto takes the first that has the architecture"),
        "world_size": ("1", "devices that share the sequences of a step"),
        ROWS: ("all", "sequences of one forward pass on a device: all of its part of a step, or a number"),
    },
    expresses="every tensor's init, lr, weight decay and eps; the four multipliers in Granite and HyperCLOVA X",
    folds="multipliers in Llama, Qwen3 and Arcee; those of single hidden tensors everywhere",
    refuses="mixtures of experts, learned positions, scalar gains, qk_norm without swiglu or with biases; optimizers"
    " other than adamw and sgd",
)
