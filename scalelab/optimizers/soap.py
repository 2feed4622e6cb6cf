"""SOAP, Adam in the eigenbasis of Shampoo's factors (Vyas et al., arXiv:2409.11321, Algorithms 3 and 4)."""

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from scalelab.optimizers.base import PerParameter
from scalelab.optimizers.factors import matrix_shape
from scalelab.optimizers.shampoo import require_matrices


class SOAP(PerParameter):
    """Δ = −lr · Q_L · (Q_Lᵀ·m̂·Q_R / (√v̂ + ε)) · Q_Rᵀ, with v the moving average of (Q_Lᵀ·g·Q_R)².

    Decoupled weight decay p *= 1 − lr · λ. Q_L and Q_R start as the eigenvectors of g·gᵀ and gᵀ·g and follow their
    moving averages (rate `factor_beta`, β2 where it is None) by one power iteration and a QR every `interval` steps. As
    in the authors' code the first step only sets the bases and moves nothing: in the basis of its own gradient Adam
    would blow rounding errors up to the size of the signal. The last two dimensions are a matrix, as in
    `factors.matrix_shape`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        weight_decay: float = 0.0,
        *,
        eps: float = 1e-8,
        factor_beta: float | None = None,
        interval: int = 10,
        flatten: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps, "factor_beta": factor_beta,
                "interval": interval, "flatten": flatten,
            },
        )  # fmt: skip

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        require_matrices(self)

    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        beta1, beta2 = group["betas"]
        factor_beta = beta2 if group["factor_beta"] is None else group["factor_beta"]
        g = grad.reshape(matrix_shape(p.shape, flatten=group["flatten"]))
        factors = {"left": (1 - factor_beta) * (g @ g.mT), "right": (1 - factor_beta) * (g.mT @ g)}
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(g), exp_avg_sq=torch.zeros_like(g), **factors)
            for side, factor in factors.items():  # the largest eigenvalue first, as `_follow` keeps them
                state[f"{side}_basis"] = torch.linalg.eigh(factor).eigenvectors.flip(-1)
            return
        state["step"] += 1
        left, right = state["left_basis"], state["right_basis"]
        mean = left.mT @ state["exp_avg"].lerp_(g, 1 - beta1) @ right / (1 - beta1 ** state["step"])
        square = state["exp_avg_sq"].lerp_((left.mT @ g @ right).square(), 1 - beta2) / (1 - beta2 ** state["step"])
        update = left @ (mean / (square.sqrt() + group["eps"])) @ right.mT

        lr = float(group["lr"])
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(update.reshape(p.shape), alpha=-lr)

        for side, factor in factors.items():
            state[side].mul_(factor_beta).add_(factor)
        if state["step"] % group["interval"] == 0:
            _follow(state)


def _follow(state: dict[str, Any]) -> None:
    """Turn both bases towards their factors' eigenvectors, and put the second moments in the bases' new order."""
    for side, dim in (("left", -2), ("right", -1)):
        basis = state[f"{side}_basis"]
        turned = state[side] @ basis
        order = (basis * turned).sum(-2).argsort(stable=True, dim=-1, descending=True)  # of the eigenvalues' estimates
        state[f"{side}_basis"] = torch.linalg.qr(turned.take_along_dim(order.unsqueeze(-2), -1)).Q
        state["exp_avg_sq"] = state["exp_avg_sq"].take_along_dim(order.unsqueeze(-3 - dim), dim)
