"""Muon, momentum orthogonalised by Newton–Schulz (Jordan et al. 2024, kellerjordan.github.io/posts/muon), for stacks.

torch.optim.Muon is the same step for one matrix; it refuses stacked experts and convolutions, and multiplies the rate
by a factor of the shape out of sight of the parameter group.
"""

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from scalelab.errors import Refused
from scalelab.optimizers.base import PerParameter
from scalelab.optimizers.factors import matrix_shape

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic: the steepest at zero that keeps every value near 1


def orthogonalized(x: torch.Tensor, *, steps: int, eps: float, dtype: torch.dtype) -> torch.Tensor:
    """U·S'·Vᵀ for each matrix U·S·Vᵀ of x [..., m, n], in `dtype`; S' is within about 0.7 to 1.2, not exactly 1."""
    a, b, c = COEFFICIENTS
    tall = x.size(-2) > x.size(-1)
    stack = x.to(dtype).reshape(-1, *x.shape[-2:])
    wide = stack.mT if tall else stack
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)  # spectral norm at most 1
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return (wide.mT if tall else wide).reshape(x.shape)


class Muon(PerParameter):
    """Δ = −lr · NS(m), of spectral norm about lr in every matrix; decoupled weight decay p *= 1 − lr · λ.

    m ← μ·m + (1−μ)·g, and with `nesterov` NS sees μ·m + (1−μ)·g of the new m. There is no factor of the shape: the lr
    of a group is the effective one (`factors.shape_factor`; `factors.effective` for published weight decays). The last
    two dimensions are a matrix, as in `factors.matrix_shape`. The scale of the gradients does not matter down to a
    Frobenius norm of `eps`. Newton–Schulz runs in `ns_dtype`: bfloat16 as published, though a CPU without bfloat16
    arithmetic is tens of times faster in float32, whose updates differ by one or two percent.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = True,
        flatten: bool = False,
        ns_steps: int = 5,
        ns_dtype: torch.dtype = torch.bfloat16,
        eps: float = 1e-7,
    ) -> None:
        if not 0.0 <= momentum < 1.0:
            raise Refused(f"momentum is {momentum}: it is at least 0 and below 1")
        super().__init__(
            params,
            {
                "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov, "flatten": flatten,
                "ns_steps": ns_steps, "ns_dtype": ns_dtype, "eps": eps,
            },
        )  # fmt: skip

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            matrix_shape(p.shape)

    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[p], group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
        buffer = state["momentum_buffer"].lerp_(grad, 1 - momentum)
        seen = grad.lerp(buffer, momentum) if group["nesterov"] else buffer
        matrices = seen.reshape(matrix_shape(p.shape, flatten=group["flatten"]))
        update = orthogonalized(matrices, steps=group["ns_steps"], eps=group["eps"], dtype=group["ns_dtype"])

        lr = float(group["lr"])
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(update.reshape(p.shape), alpha=-lr)
