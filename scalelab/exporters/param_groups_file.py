"""Parameter groups, initial values and schedule of a recipe for any PyTorch code; needs torch and the JSON beside it.

    import param_groups

    param_groups.init_(model, rename)
    optimizer = param_groups.optimizer(model, rename)
    scheduler = param_groups.scheduler(optimizer)  # one step() after each optimizer.step()

`rename` turns the name of a parameter of your model into its name in the recipe, whose patterns are in the JSON:
`embedding.weight`, `blocks.0.attention.query.weight`, … Every parameter must be one of them, and each of them there.
What the numbers mean stands beside them; what else the run needs is under "run", "network", "forward" and "notes".
"""

import json
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

FILE = Path(__file__).with_name("param_groups.json")
Rename = Callable[[str], str]


def as_it_is(name: str) -> str:
    """The `rename` of a model whose names are the recipe's."""
    return name


@cache
def record() -> dict[str, Any]:
    """The recipe: "groups", "optimizer", "run", "network", "forward", "notes"."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def matched(model: nn.Module, rename: Rename = as_it_is) -> list[tuple[dict[str, Any], list[tuple[str, nn.Parameter]]]]:
    """Each group of the record with its parameters and their names in the model.

    Raises:
        ValueError: naming a parameter that no pattern or more than one matches; a group of which the model has other
            tensors, or of other sizes, than the recipe.
    """
    members: dict[int, list[tuple[str, nn.Parameter]]] = {index: [] for index in range(len(record()["groups"]))}
    for name, parameter in model.named_parameters():
        new = rename(name)
        hits = [
            (index, pattern)
            for index, group in enumerate(record()["groups"])
            for pattern in group["patterns"]
            if re.fullmatch(pattern, new)
        ]
        if len(hits) != 1:
            by = " and ".join(pattern for _, pattern in hits) or "no pattern"
            raise ValueError(f"parameter {name!r}, renamed {new!r}, is matched by {by}: exactly one has to match it")
        members[hits[0][0]].append((name, parameter))
    for group, found in zip(record()["groups"], members.values(), strict=True):
        here = (len(found), sum(parameter.numel() for _, parameter in found))
        if here != (group["tensors"], group["elements"]):
            raise ValueError(
                f"group {group['patterns']}: the model has {here[0]} tensors of {here[1]} elements, the recipe"
                f" {group['tensors']} of {group['elements']}"
            )
    return [(group, members[index]) for index, group in enumerate(record()["groups"])]


def param_groups(model: nn.Module, rename: Rename = as_it_is) -> list[dict[str, Any]]:
    """Groups for a torch optimizer: params with their names, lr, weight_decay and, where it has one, eps."""
    return [
        {
            "params": [parameter for _, parameter in found],
            "names": [name for name, _ in found],
            **{key: group[key] for key in ("lr", "weight_decay", "eps") if group[key] is not None},
        }
        for group, found in matched(model, rename)
    ]


@torch.no_grad()
def init_(model: nn.Module, rename: Rename = as_it_is, generator: torch.Generator | None = None) -> None:
    """Fill every parameter: a normal of the group's mean and standard deviation, or the mean where that is 0."""
    for group, found in matched(model, rename):
        for _, parameter in found:
            parameter.fill_(group["init_mean"])
            if group["init_std"]:
                parameter.normal_(group["init_mean"], group["init_std"], generator=generator)


def optimizer(model: nn.Module, rename: Rename = as_it_is, **given: Any) -> torch.optim.Optimizer:
    """The optimizer at peak learning rates; `given` goes to its class (fused=True, …)."""
    groups, kind = param_groups(model, rename), record()["optimizer"]
    if kind["name"] == "AdamW":
        return torch.optim.AdamW(groups, betas=(kind["beta1"], kind["beta2"]), **given)
    return torch.optim.SGD(groups, momentum=kind["momentum"], **given)


def lr_factor(step: int) -> float:
    """The factor on every group's peak learning rate at `step`, from 0 to steps − 1."""
    run = record()["run"]
    warmup, start, steps, low = run["warmup_steps"], run["decay_start"], run["steps"], run["min_lr_ratio"]
    if step < warmup:
        return float((step + 1) / warmup)
    if run["schedule"] == "constant" or step < start:
        return 1.0
    progress = min(step - start, steps - start) / max(steps - start, 1)
    fall = 0.5 * (1 + math.cos(math.pi * progress)) if run["schedule"] == "cosine" else 1 - progress
    return float(low + (1 - low) * fall)


def scheduler(built: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule of an optimizer; each group keeps its own ratio to the others."""
    return torch.optim.lr_scheduler.LambdaLR(built, lr_factor)
