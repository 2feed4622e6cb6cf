"""Proxy models, as far as they are known without torch: what their parameters are, and how many."""

from scalelab.models.counts import FlopCount, ParamCount, count_flops_per_token, count_params, params_of
from scalelab.models.registry import MODELS, Model, Modelled, inventory
from scalelab.models.tensors import Dim, Tensor

__all__ = [
    "MODELS", "Dim", "FlopCount", "Model", "Modelled", "ParamCount", "Tensor", "count_flops_per_token", "count_params",
    "inventory", "params_of",
]  # fmt: skip
