"""The step that every optimizer of the house shares: one update for each parameter that has a gradient."""

from abc import abstractmethod
from typing import Any

import torch
from torch.optim.optimizer import Optimizer, ParamsT

from scalelab.errors import Refused


class PerParameter(Optimizer):
    """An optimizer whose parameters do not meet each other: `_update` moves one, by its gradient and its group."""

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        betas = defaults.get("betas", (0.0,))
        if not 0.0 <= min(betas) <= max(betas) < 1.0:
            raise Refused(f"betas are {betas}: each is at least 0 and below 1")
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)
        return loss

    @abstractmethod
    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        """Move `p` in place. Gradients are off; `grad` is not to be changed."""
