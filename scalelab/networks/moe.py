"""The mixture-of-experts proxy: the decoder of `networks.transformer` with a router and experts for its MLP.

Every token goes to the `top_k` experts of the largest router probability, none is dropped and nothing is drawn. The
experts' outputs are weighted with those probabilities, divided by their sum: a softmax over the chosen logits, as in
Mixtral (arXiv:2401.04088 §2.1).

Tensors are named with their shapes: B sequences, T tokens, D width, E experts, K of them a token; S = B·T·K pairs of a
token and an expert, in the order of the experts.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.networks import transformer
from scalelab.networks.layers import Linear, Multiplied, RMSNorm
from scalelab.networks.members import Constant, of_own, product, times
from scalelab.resolve import Multipliers
from scalelab.shape import Architecture, Shape
from scalelab.spec import RunSpec


class Router(Linear):
    """A `Linear` in float32 whatever surrounds it (Switch Transformers, arXiv:2101.03961 §2.4)."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return product(times(x.float(), self.multiplier), self.weight.float())


class Stack(Multiplied):
    """y = multiplier · x Wᵀ with a matrix for each expert; the rows of x are in the order of the experts, and counted.

    One product an expert. F.grouped_mm saves up to a quarter of a step (CPU, 32 experts; 8: nothing sure), but in
    float32 torch 2.13 cannot compile it, nor count its FLOPs.
    """

    def __init__(self, experts: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, fan_out, fan_in))

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        members = self.weight.shape[:-3]  # of a stack: a member's experts, and as many rows as any other's, follow
        x = times(x.view(*members, -1, x.shape[-1]), self.multiplier).view(x.shape)
        matrices = self.weight.flatten(0, -3)
        return torch.cat([F.linear(rows, each) for rows, each in zip(torch.split(x, counts), matrices, strict=True)])


class Experts(nn.Module):
    """x [B, T, D] and the experts chosen for it [B, T, K] → their outputs [B, T, K, D]."""

    def __init__(self, shape: Shape, architecture: Architecture) -> None:
        super().__init__()
        e, d, f = shape.experts, shape.width, shape.ffn
        self.gate = Stack(e, d, f) if architecture.mlp == "swiglu" else None
        self.up = Stack(e, d, f)
        self.down = Stack(e, f, d)
        self.activation = transformer.ACTIVATIONS[architecture.mlp]

    def forward(self, x_BTD: Tensor, chosen_BTK: Tensor) -> Tensor:
        experts = self.up.weight.shape[:-2].numel()  # of all members of a stack, each with its own
        if self.up.weight.dim() > 3:
            chosen_BTK = of_own(chosen_BTK, *self.up.weight.shape[:2])
        chosen_S = chosen_BTK.flatten()
        order_S = chosen_S.argsort(stable=True)
        counts = torch.bincount(chosen_S, minlength=experts).tolist()
        # Each token once for each of its experts: the way back is a sum over K, in the same order each time.
        copies_SD = x_BTD.unsqueeze(-2).expand(*chosen_BTK.shape, -1).reshape(-1, x_BTD.shape[-1])
        x_SD = copies_SD.index_select(0, order_S)
        up_SF = self.up(x_SD, counts)
        a_SF = self.activation(up_SF) if self.gate is None else self.activation(self.gate(x_SD, counts)) * up_SF
        y_SD: Tensor = self.down(a_SF, counts)
        return y_SD.index_select(0, order_S.argsort()).reshape(*chosen_BTK.shape, -1)


class Mixture(nn.Module):
    """x [B, T, D] → the weighted sum of its experts' outputs [B, T, D].

    `balance` is the load-balancing loss of the last forward pass, a plain attribute; a copy starts without it, because
    it holds that pass's graph. `pooled` makes the mean of a tensor over all processes that have a part of the batch.
    """

    balance: Tensor | None
    pooled: Callable[[Tensor], Tensor] | None = None

    def __init__(self, shape: Shape, architecture: Architecture) -> None:
        super().__init__()
        self.top_k = shape.top_k
        self.norm = RMSNorm(shape.width, gain=architecture.norm_gains)
        self.router = Router(shape.width, shape.experts)
        self.experts = Experts(shape, architecture)
        self.balance = None

    def forward(self, x_BTD: Tensor) -> Tensor:
        h_BTD = self.norm(x_BTD)
        probability_BTE = self.router(h_BTD).softmax(dim=-1)
        weight_BTK, chosen_BTK = probability_BTE.topk(self.top_k, dim=-1)
        self.balance = balance(probability_BTE, chosen_BTK, self.pooled)
        weight_BTK = weight_BTK / weight_BTK.sum(dim=-1, keepdim=True)
        y_BTKD: Tensor = self.experts(h_BTD, chosen_BTK)
        y_BTD: Tensor = (weight_BTK.to(y_BTKD.dtype).unsqueeze(-2) @ y_BTKD).squeeze(-2)
        return y_BTD

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "balance": None}


def balance(probability_BTE: Tensor, chosen_BTK: Tensor, pooled: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """E · Σ_e (share of the choices that fell on e) · (mean probability of e): 1 where both are uniform; one a member.

    Switch Transformers (arXiv:2101.03961) eq. 4–6, which choose one expert; with K the shares are still made to sum to
    one, so that the coefficient means the same for every K. With `pooled` the shares are those of all processes, so
    that the mean of what each returns is the loss of the whole batch, and so are the gradients.
    """
    chosen_BTE = torch.zeros_like(probability_BTE).scatter(-1, chosen_BTK, 1 / chosen_BTK.shape[-1])
    share_E, mean_E = (each.flatten(-3, -2).mean(dim=-2) for each in (chosen_BTE, probability_BTE))
    if pooled is not None:
        share_E = pooled(share_E)
    return mean_E.shape[-1] * (share_E * mean_E).sum(dim=-1)


class Block(transformer.Block):
    """x + r · attention(x), then x + r · mixture(x), r the residual multiplier."""

    def __init__(self, shape: Shape, architecture: Architecture, sites: Multipliers) -> None:
        super().__init__(shape, architecture, sites)
        self.mlp = Mixture(shape, architecture)  # type: ignore[assignment]


class MoE(transformer.Transformer):
    """Token ids [B, T] → logits [B, T, V], and the load-balancing loss beside it."""

    block = Block
    constants = (*transformer.Transformer.constants, "balance_loss")
    labels: ClassVar[dict[str, str]] = {
        # Not the experts' `up`: its rows are in the order of the experts, which changes from step to step.
        **{ending: label for ending, label in transformer.Transformer.labels.items() if ending != "up"},
        "router": "router", "experts": "expert outputs",
    }  # fmt: skip

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        self.balance_loss: Constant = spec.hparams.balance_loss

    def auxiliary(self) -> Tensor | None:
        """`balance_loss` times the mean over blocks: Switch adds up layers; so, its size does not depend on depth."""
        mixtures = [module for module in self.modules() if isinstance(module, Mixture)]
        found = [mixture.balance for mixture in mixtures if mixture.balance is not None]
        if not found or (not isinstance(self.balance_loss, Tensor) and not self.balance_loss):
            return None
        return times(torch.stack(found).mean(dim=0), self.balance_loss)
