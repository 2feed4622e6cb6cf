"""Lion, the sign of an interpolated momentum (Chen et al., arXiv:2302.06675, Algorithm 2)."""

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from scalelab.optimizers.base import PerParameter


class Lion(PerParameter):
    """Δ = −lr · sign(β1·m + (1−β1)·g), then m ← β2·m + (1−β2)·g; decoupled weight decay p *= 1 − lr · λ."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["exp_avg"] = torch.zeros_like(p)
        beta1, beta2 = group["betas"]
        lr = float(group["lr"])
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(state["exp_avg"].lerp(grad, 1 - beta1).sign_(), alpha=-lr)
        state["exp_avg"].lerp_(grad, 1 - beta2)
