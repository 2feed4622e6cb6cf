"""Adam without an epsilon: arctan2 in place of the division (Everett et al., arXiv:2407.05872)."""

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from scalelab.optimizers.base import PerParameter


class AdamAtan2(PerParameter):
    """Δ = −lr · a · atan2(m̂, b · √v̂), where Adam has −lr · m̂ / (√v̂ + ε); decoupled weight decay p *= 1 − lr · λ.

    The update does not know the scale of its gradients, from the largest down to those whose square underflows (|g| of
    about 1e-21 in float32); there it is bounded by a · π/2. a = 1.27 ≈ 4/π makes a constant gradient's step 0.997 · lr.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        *,
        a: float = 1.27,
        b: float = 1.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "a": a, "b": b})

    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        mean = state["exp_avg"].lerp_(grad, 1 - beta1) / (1 - beta1 ** state["step"])
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2) / (1 - beta2 ** state["step"])

        lr = float(group["lr"])
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(mean.atan2_(square.sqrt_().mul_(group["b"])), alpha=-lr * group["a"])
