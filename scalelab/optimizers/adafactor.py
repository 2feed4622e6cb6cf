"""Adafactor, second moments from row and column means (Shazeer & Stern, arXiv:1804.04235, Algorithms 4 and 5).

torch.optim.Adafactor takes min(lr, 1/√t) for its rate, which bends the ratios between groups once the larger is cut;
always multiplies by RMS(p); and floors a matrix's mean squared gradient at 1.2e-7, which real gradients are below.
"""

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from scalelab.errors import Refused
from scalelab.optimizers.base import PerParameter
from scalelab.optimizers.factors import matrix_shape


def rms(x: torch.Tensor) -> torch.Tensor:
    """Root mean square of each matrix of x, or of the whole of a vector; broadcasts against x."""
    return x.square().mean(dim=tuple(range(-min(x.ndim, 2), 0)), keepdim=True).sqrt()


class Adafactor(PerParameter):
    """Δ = −lr · max(ε2, RMS(p)) · û, with û = u / max(1, RMS(u)/d) and u = g / √v̂; v̂ = R·C / mean(R) for matrices.

    Decoupled weight decay p *= 1 − lr · λ. R and C are moving averages of the row and column means of g² + ε1, with
    β2(t) = 1 − t^beta2_decay, so that neither needs correcting for its start. `eps` is (ε1, ε2), `d` the largest RMS of
    an update. Without `scale_parameter` the factor max(ε2, RMS(p)) is left out. There is no relative step: lr is what
    the group carries. The last two dimensions are a matrix, as in `factors.matrix_shape`, and each matrix has its own
    RMS; vectors keep all their second moments.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float, float] = (1e-30, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        scale_parameter: bool = True,
        flatten: bool = False,
    ) -> None:
        if beta2_decay > 0.0:
            raise Refused(f"beta2_decay is {beta2_decay}: 1 − t^beta2_decay needs 0 or less")
        super().__init__(
            params,
            {
                "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
                "scale_parameter": scale_parameter, "flatten": flatten,
            },
        )  # fmt: skip

    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        shape = matrix_shape(p.shape, flatten=group["flatten"]) if p.ndim > 1 else p.shape
        g = grad.reshape(shape)
        square = g.square() + group["eps"][0]
        averages = {"row": square.mean(-1, True), "col": square.mean(-2, True)} if g.ndim > 1 else {"all": square}
        if not state:
            state.update(step=0, **{name: torch.zeros_like(average) for name, average in averages.items()})
        state["step"] += 1
        for name, average in averages.items():
            state[name].lerp_(average, state["step"] ** group["beta2_decay"])
        if g.ndim > 1:
            # one factor at a time: the product of two squares underflows long before either does
            update = g * (state["row"] / state["row"].mean(-2, True)).rsqrt() * state["col"].rsqrt()
        else:
            update = g * state["all"].rsqrt()
        update = update / (rms(update) / group["d"]).clamp(min=1.0)
        if group["scale_parameter"]:
            update = update * rms(p.reshape(shape)).clamp(min=group["eps"][1])

        lr = float(group["lr"])
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(update.reshape(p.shape), alpha=-lr)
