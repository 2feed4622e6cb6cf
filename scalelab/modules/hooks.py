"""Forward multipliers on modules of any class: plain floats in hooks, nothing on a tensor.

A hook is a small frozen object, so it survives deepcopy, pickle and torch.save, is traced by torch.compile and
torch.export, and never enters a state_dict: a checkpoint holds parameters only, and a model gets its multipliers from
`parametrize`, as it gets its layers from its constructor.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from scalelab.errors import Refused

MARK = "scalelab_parametrized"  # in a module's __dict__: the name of the table that was applied to it


@dataclass(frozen=True)
class ScaledInput:
    """Multiplies a module's first input: y = f(factor · x). A linear map's bias is not multiplied, as in MuReadout."""

    factor: float

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (args[0] * self.factor, *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: kwargs[first] * self.factor}


@dataclass(frozen=True)
class ScaledOutput:
    """Multiplies a module's output, the first of it where it is a tuple: y = factor · f(x)."""

    factor: float

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] * self.factor, *output[1:])
        if not isinstance(output, Tensor):
            raise Refused(f"the output of {type(module).__name__} is a {type(output).__name__}, not a tensor to scale")
        return output * self.factor


def scale_input(module: nn.Module, factor: float) -> None:
    """Multiply what the module is given, from now on; nothing where the factor is 1."""
    if factor != 1.0:
        module.register_forward_pre_hook(ScaledInput(factor), with_kwargs=True)


def scale_output(module: nn.Module, factor: float) -> None:
    """Multiply what the module gives, from now on; nothing where the factor is 1."""
    if factor != 1.0:
        module.register_forward_hook(ScaledOutput(factor))


def multipliers(model: nn.Module) -> dict[str, tuple[ScaledInput | ScaledOutput, ...]]:
    """The multipliers that a model carries, by module name; a copy of a parametrized model has the same."""
    found = {}
    for name, module in model.named_modules():
        hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        if mine := tuple(hook for hook in hooks if isinstance(hook, ScaledInput | ScaledOutput)):
            found[name] = mine
    return found


def refuse_second(model: nn.Module) -> None:
    """`Refused` where a table was applied to the model, or to a part of it, before."""
    for name, module in model.named_modules():
        if MARK in module.__dict__:
            where = f"its module {name!r}" if name else "it"
            raise Refused(f"the model is parametrized already ({where} with {module.__dict__[MARK]!r}): build it anew")


def mark(model: nn.Module, table: str) -> None:
    """Remember that a table was applied: on the module, so that copies remember too."""
    model.__dict__[MARK] = table
