"""Attention logits of a network as they go into the softmax, without a change to the network."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class AttentionLogits(TorchFunctionMode):
    """Notes, while it is entered, the largest |logit| of each call of scaled_dot_product_attention, in `largest`.

    Whatever network makes the calls; a fused kernel itself never shows its logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest: list[float] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            self.largest.append(_largest(*args, **given))
        return func(*args, **given)


def _largest(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> float:
    """The largest |q·k|·scale over the pairs that see each other."""
    heads, groups = q_BHTK.shape[-3], k_BGSK.shape[-3]
    k_BHSK = k_BGSK.repeat_interleave(heads // groups, dim=-3) if enable_gqa else k_BGSK
    logits_BHTS = q_BHTK @ k_BHSK.mT * (1 / math.sqrt(q_BHTK.shape[-1]) if scale is None else scale)
    if is_causal:
        logits_BHTS = logits_BHTS.tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        logits_BHTS = logits_BHTS.where(attn_mask, 0.0)
    elif attn_mask is not None:
        logits_BHTS = (logits_BHTS + attn_mask).where(attn_mask.isfinite(), 0.0)
    return logits_BHTS.abs().max().item()
