"""AdamW for all members of a population at once, for devices where each launch costs: a rate a member.

The formula is torch.optim.AdamW's, the order of its roundings is not: on one device an update equals torch's to a few
units in the last place. Members do not meet, so one has the same bits beside any others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scalelab.resolve import betas, groups, settings
from scalelab.spec import RunSpec

OptimizerState = Mapping[str, Mapping[str, Any]]  # by the parameters' names


class BroadcastAdamW:
    """The optimizer of the stack of M members; nothing in `step` waits for the host, so that a graph can hold it."""

    def __init__(self, stack: nn.Module, specs: Sequence[RunSpec]) -> None:
        self.leaves = dict(stack.named_parameters())
        self.device = next(stack.parameters()).device
        self.first = {name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
        self.second = {name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
        self.steps_M = torch.zeros(len(specs), device=self.device)
        own = [{name: group for group in groups(settings(spec)) for name in group.names} for spec in specs]
        self.lr = {name: self._column([each[name].lr for each in own]) for name in self.leaves}
        self.weight_decay = {name: self._column([each[name].weight_decay for each in own]) for name in self.leaves}
        self.eps = {name: self._column([each[name].eps or 0.0 for each in own]) for name in self.leaves}
        self.beta1, self.beta2 = (self._column([betas(spec)[which] for spec in specs]) for which in (0, 1))
        clips = [spec.hparams.clip_norm for spec in specs]
        limited = any(clip is not None for clip in clips)
        self.most = self._column([float("inf") if clip is None else clip for clip in clips]) if limited else None
        # One kernel a parameter instead of a dozen.
        self.update = torch.compile(_adamw) if self.device.type == "cuda" else _adamw

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device, dtype=torch.float32)

    @torch.no_grad()
    def step(self, factors_M: Tensor) -> None:
        """One update; `factors_M` are the schedules' factors on the peak learning rates."""
        self.steps_M += 1
        grads = {name: leaf.grad for name, leaf in self.leaves.items() if leaf.grad is not None}
        clip_M = None
        if self.most is not None:
            # [M, …] summed along its rows: along its columns a sum is taken in another order for one member.
            squares = torch.stack([grad.square().flatten(1).sum(dim=1) for grad in grads.values()], dim=1)
            # As torch's clipping; without a limit the factor is 1, however large the norm.
            clip_M = (self.most / (squares.sum(dim=1).sqrt() + 1e-6)).clamp(max=1.0)
            clip_M = torch.where(self.most.isinf(), 1.0, clip_M)
        for name, grad in grads.items():
            self.update(
                self.leaves[name], grad, self.first[name], self.second[name], self.steps_M, clip_M,
                self.lr[name] * factors_M, self.weight_decay[name], self.eps[name], self.beta1, self.beta2,
            )  # fmt: skip

    def state(self, place: int) -> OptimizerState:
        """The state of one member as torch's AdamW keeps it."""
        step = self.steps_M[place]
        return {
            name: {
                "step": step.clone(),
                "exp_avg": self.first[name][place].clone(),
                "exp_avg_sq": self.second[name][place].clone(),
            }
            for name in (self.leaves if step > 0 else ())
        }

    def load(self, place: int, state: OptimizerState) -> None:
        """Go on from the state of one member."""
        for name, kept in state.items():
            self.first[name][place].copy_(kept["exp_avg"])
            self.second[name][place].copy_(kept["exp_avg_sq"])
            self.steps_M[place] = float(kept["step"])


def _adamw(
    p: Tensor, g: Tensor, first: Tensor, second: Tensor, steps_M: Tensor, clip_M: Tensor | None, lr_M: Tensor,
    weight_decay_M: Tensor, eps_M: Tensor, beta1_M: Tensor, beta2_M: Tensor,
) -> None:  # fmt: skip
    """One parameter [M, …] in place."""
    along = (-1, *[1] * (p.dim() - 1))
    steps, lr, weight_decay, eps, beta1, beta2 = (
        each.view(along) for each in (steps_M, lr_M, weight_decay_M, eps_M, beta1_M, beta2_M)
    )
    if clip_M is not None:
        g = g * clip_M.view(along)
    p.mul_(1 - lr * weight_decay)
    first.lerp_(g, 1 - beta1)
    second.mul_(beta2).addcmul_(g, g * (1 - beta2))
    p.sub_(lr / (1 - beta1**steps) * first / ((second / (1 - beta2**steps)).sqrt() + eps))
