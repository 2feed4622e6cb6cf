"""Residual branches of u-muP (arXiv:2407.17465, App. G): weighted by τ, summed to unit scale.

A stream x and a branch f become (τ f(x) + x)/√(1 + τ²). The branch's backward factor is delayed from its output to its
input, so that inside it gradients are unit as well. The formulas are those of the `unit_scaling` package.
"""

import math

from torch import Tensor

from scalelab.networks.members import scaled_by
from scalelab.networks.unit_ops import Scale, scaled


def residual_split(x: Tensor, tau: Scale = 1.0) -> tuple[Tensor, Tensor]:
    """(input of the branch, skip) of a stream x (package: functional.py:residual_split).

    The branch's input is x, its gradient times τ/√(1 + τ²); the skip is already x/√(1 + τ²), an ordinary product,
    because it has one scale in both directions.
    """
    return scaled(x, backward=_branch_weight(tau)), scaled_by(x, _skip_weight(tau))


def residual_add(branch: Tensor, skip: Tensor, tau: Scale = 1.0) -> Tensor:
    """The stream after a branch, from its output and the skip of `residual_split` (functional.py:residual_add)."""
    return scaled(branch, forward=_branch_weight(tau)) + skip


def residual_taus(branches: int, alpha_res: float = 1.0, alpha_ratio: float = 1.0) -> list[float]:
    """τ of each of an even number of branches, attention and MLP by turns (core/functional.py:_tau).

    In the final stream every attention branch then has one weight, every MLP branch another `alpha_ratio` times
    smaller, and the branches of a kind sum, on average over the two kinds, to `alpha_res`² of the embedding's variance.

    >>> [round(tau, 4) for tau in residual_taus(4)]
    [0.7071, 0.5774, 0.5, 0.4472]
    """
    mlp = alpha_res**2 * 2 / (1 + alpha_ratio**2)  # variances, in units of the embedding's share / (branches / 2)
    attention = alpha_ratio**2 * mlp
    taus, before = [], branches / 2
    for index in range(branches):
        weight = mlp if index % 2 else attention
        # The package's sum: n_attention = ⌈index/2⌉ and n_mlp = ⌊index/2⌋ branches stand before this one.
        taus.append(math.sqrt(weight / before))
        before += weight
    return taus


def _branch_weight(tau: Scale) -> Scale:
    return tau / (1 + tau**2) ** 0.5


def _skip_weight(tau: Scale) -> Scale:
    return 1 / (1 + tau**2) ** 0.5
