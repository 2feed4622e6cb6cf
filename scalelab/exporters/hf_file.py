"""A recipe for the Trainer of transformers: weights as it starts them, and the optimizer and schedule that it takes.

    import json, scalelab_hf
    from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained("."))
    scalelab_hf.init_weights_(model)
    arguments = TrainingArguments(**json.load(open("training_args.json")))
    optimizers = scalelab_hf.create_optimizer_and_scheduler(model)
    Trainer(model, arguments, train_dataset=..., optimizers=optimizers, **scalelab_hf.loss()).train()

Rows of the data are one token longer than the context, as input_ids and as labels: transformers shifts them. Where
Trainer takes no optimizers (FSDP, untried here), leave them out: `class RecipeTrainer(scalelab_hf.Creates, Trainer)`.
Needs torch and, beside it, config.json, param_groups.py and param_groups.json.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.exporters import param_groups_file as param_groups

CONFIG = Path(__file__).with_name("config.json")
FREE = ("architectures", "dtype", "max_position_embeddings")  # the recipe does not rest on them


def create_optimizer_and_scheduler(
    model: nn.Module,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """For `Trainer(optimizers=…)`. Gains that the proxies do not have are held where they start, and get no gradient.

    Raises:
        ValueError: where the model is not that of config.json, or a parameter is in none of the groups.
    """
    optimizer = create_optimizer(model)
    return optimizer, param_groups.scheduler(optimizer)


def create_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The first of the two."""
    check(model)
    held = param_groups.record()["held"]
    for name, parameter in model.named_parameters():
        if any(re.fullmatch(pattern, name) for pattern in held):
            parameter.requires_grad_(False)
    return param_groups.optimizer(model)


class Creates:
    """A base before Trainer, which then makes both when it wants them; it never calls create_optimizer_and_scheduler.

    Raises:
        ValueError: as `create_optimizer_and_scheduler`, and where a run has more or fewer steps than the recipe.
    """

    model: nn.Module
    optimizer: Any
    lr_scheduler: Any

    def create_optimizer(self, model: nn.Module | None = None) -> Any:
        if self.optimizer is None:
            self.optimizer = create_optimizer(self.model if model is None else model)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if num_training_steps != (steps := param_groups.record()["run"]["steps"]):
            raise ValueError(
                f"a run of {num_training_steps} steps, the recipe is for {steps}: leave max_steps as it is"
            )
        if self.lr_scheduler is None:
            self.lr_scheduler = param_groups.scheduler(self.optimizer if optimizer is None else optimizer)
        return self.lr_scheduler


def init_weights_(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Start every parameter with the mean and standard deviation of its group, which `initializer_range` cannot say.

    Raises:
        ValueError: as `create_optimizer_and_scheduler`.
    """
    check(model)
    param_groups.init_(model, generator=generator)


def loss() -> dict[str, Any]:
    """What else Trainer is to be given: a loss with the recipe's z-loss; nothing where it has none."""
    return {"compute_loss_func": compute_loss} if param_groups.record()["run"]["z_loss"] else {}


def compute_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Cross-entropy and z-loss, summed over this batch's targets and divided by the number of them in the step's."""
    logits, targets = outputs.logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
    count = targets.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch
    squares: Tensor = logits.logsumexp(dim=-1).square()[targets != -100]
    nats = F.cross_entropy(logits, targets, reduction="sum")
    total: Tensor = nats + param_groups.record()["run"]["z_loss"] * squares.sum()
    return total / count


def check(model: Any) -> None:
    """`ValueError` where a model has other sizes or multipliers than config.json, on which the values rest."""
    for key, value in json.loads(CONFIG.read_text()).items():
        if key not in FREE and value is not None and (given := getattr(model.config, key, None)) != value:
            raise ValueError(f"{key} is {given!r} in this model, and {value!r} in the recipe's {CONFIG.name}")
