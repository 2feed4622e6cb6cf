"""Shampoo, a gradient between inverse roots of its two covariances (Gupta et al., arXiv:1802.09568, Algorithm 1).

The moving averages, the momentum and the grafting are those of Distributed Shampoo (Shi et al., arXiv:2309.06497).
"""

from typing import Any

import torch
from torch.optim.optimizer import Optimizer, ParamsT

from scalelab.errors import Refused, unknown
from scalelab.optimizers.base import PerParameter
from scalelab.optimizers.factors import matrix_shape

DAMPINGS = ("absolute", "relative")
GRAFTS = ("none", "adam")


def require_matrices(optimizer: Optimizer) -> None:
    """Refuse what the newest group cannot hold. Half precision: torch casts a loaded state to the parameter's dtype."""
    for p in optimizer.param_groups[-1]["params"]:
        matrix_shape(p.shape)
        if p.dtype not in (torch.float32, torch.float64):
            raise Refused(f"eigenvectors need float32 or float64 parameters, not {str(p.dtype).removeprefix('torch.')}")


def inverse_root(matrix: torch.Tensor, root: float, eps: float, damping: str) -> torch.Tensor:
    """(A + ε)^−root of each symmetric positive semidefinite A, where ε is `eps`, times A's top eigenvalue if relative.

    What is still zero becomes the smallest normal number, so that a gradient of zero makes an update of zero.
    """
    values, vectors = torch.linalg.eigh(matrix)
    values = values.clamp(min=0.0)
    damped = values + eps * (values[..., -1:] if damping == "relative" else 1.0)
    powers = damped.clamp(min=torch.finfo(matrix.dtype).tiny).pow(-root)
    inverse: torch.Tensor = (vectors * powers.unsqueeze(-2)) @ vectors.mT
    return inverse


class Shampoo(PerParameter):
    """Δ = −lr · L^−root · m̂ · R^−root, where L and R are moving averages of g·gᵀ and gᵀ·g, corrected for their start.

    Decoupled weight decay p *= 1 − lr · λ. With root ¼ (the paper's, for matrices) the update does not know the scale
    of its gradients; with ½ (its square, arXiv:2406.17748) it is inverse to it. The damping `eps` is absolute, or
    relative to the top eigenvalue of its factor; only the relative keeps that degree, and in float32 less than 1e-6 of
    the top is under the rounding errors. The roots are taken anew at the first of every `interval` steps. `graft`
    "adam" gives each update the norm of Adam's. The last two dimensions are a matrix, as in `factors.matrix_shape`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        root: float = 0.25,
        eps: float = 1e-6,
        damping: str = "relative",
        interval: int = 1,
        graft: str = "none",
        flatten: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr, "betas": betas, "weight_decay": weight_decay, "root": root, "eps": eps, "damping": damping,
                "interval": interval, "graft": graft, "flatten": flatten,
            },
        )  # fmt: skip

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        require_matrices(self)
        group = self.param_groups[-1]
        if not group["eps"] > 0.0:
            raise Refused(f"eps is {group['eps']}: a factor of less than full rank has no inverse root without damping")
        for kind, accepted in (("damping", DAMPINGS), ("graft", GRAFTS)):
            if group[kind] not in accepted:
                raise unknown(kind, group[kind], accepted)

    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        g = grad.reshape(matrix_shape(p.shape, flatten=group["flatten"]))
        sides = {"left": g @ g.mT, "right": g.mT @ g}
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(g))
            if group["graft"] == "adam":
                state["exp_avg_sq"] = torch.zeros_like(g)
            state.update({side: torch.zeros_like(factor) for side, factor in sides.items()})
        state["step"] += 1
        beta1, beta2 = group["betas"]
        debias1, debias2 = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
        mean = state["exp_avg"].lerp_(g, 1 - beta1) / debias1
        for side, factor in sides.items():
            average = state[side].lerp_(factor, 1 - beta2) / debias2
            if (state["step"] - 1) % group["interval"] == 0:
                state[f"{side}_root"] = inverse_root(average, group["root"], group["eps"], group["damping"])
        update = state["left_root"] @ mean @ state["right_root"]
        if group["graft"] == "adam":
            square = state["exp_avg_sq"].lerp_(g.square(), 1 - beta2) / debias2
            tiny = torch.finfo(g.dtype).tiny
            adam = mean / square.sqrt().clamp(min=tiny)
            own = torch.linalg.matrix_norm(update, keepdim=True).clamp(min=tiny)
            update = update * (torch.linalg.matrix_norm(adam, keepdim=True) / own)

        lr = float(group["lr"])
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(update.reshape(p.shape), alpha=-lr)
