"""Gradients that are given rather than computed, and the weights an optimizer makes of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from scalelab.optimizers.adafactor import Adafactor
from scalelab.optimizers.adam_atan2 import AdamAtan2
from scalelab.optimizers.lion import Lion
from scalelab.optimizers.muon import Muon
from scalelab.optimizers.shampoo import Shampoo
from scalelab.optimizers.soap import SOAP

Make = Callable[..., Optimizer]

EVERY: tuple[type[Optimizer], ...] = (AdamAtan2, Lion, Muon, Shampoo, SOAP, Adafactor)
OF_MATRICES: tuple[type[Optimizer], ...] = (Muon, Shampoo, SOAP)
PER_MATRIX: tuple[type[Optimizer], ...] = (*OF_MATRICES, Adafactor)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(*shape: int, steps: int = 4, seed: int = 1, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return list(randn(steps, *shape, seed=seed, dtype=dtype))


def feed(optimizer: Optimizer, p: torch.Tensor, given: Iterable[torch.Tensor]) -> None:
    for g in given:
        p.grad = g.clone()
        optimizer.step()


def stepped(make: Make, start: torch.Tensor, given: Sequence[torch.Tensor], **options: Any) -> torch.Tensor:
    """The weights after one step for each gradient."""
    p = torch.nn.Parameter(start.clone())
    feed(make([p], **options), p, given)
    return p.detach()


def moved(make: Make, given: Sequence[torch.Tensor], **options: Any) -> torch.Tensor:
    """What the steps add up to without weight decay, from weights of zero."""
    return stepped(make, torch.zeros_like(given[0]), given, weight_decay=0.0, **options)
