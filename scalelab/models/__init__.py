"""Proxy models, as far as they are known without torch: what their parameters are, and how many."""

from scalelab.models.counts import FlopCount, ParamCount, count_flops_per_token, count_params, flops_of, params_of
from scalelab.models.flops import ModuleFlops, forward_flops, module_flops, training_flops
from scalelab.models.registry import MODELS, Model, Modelled, inventory
from scalelab.models.tensors import Dim, Tensor

__all__ = [
    "MODELS", "Dim", "FlopCount", "Model", "Modelled", "ModuleFlops", "ParamCount", "Tensor", "count_flops_per_token",
    "count_params", "flops_of", "forward_flops", "inventory", "module_flops", "params_of", "training_flops",
]  # fmt: skip
