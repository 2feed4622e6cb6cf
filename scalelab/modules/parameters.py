"""The parameters of a model, each with its names, its owner and the axes along which it grows in its family."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from scalelab.errors import Refused
from scalelab.modules.pairing import Pairing, pair

Built = nn.Module | Callable[[], nn.Module]
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True, kw_only=True)
class Use:
    """One name of a parameter: where it is used, by which module; `siblings` are the modules beside that one."""

    name: str
    owner: nn.Module
    siblings: tuple[str, ...]
    base_name: str
    in_block: bool

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter with its shapes. `grows` says for each axis whether it differs between members of the family.

    A tied parameter has several `uses`; the first gives its name.
    """

    uses: tuple[Use, ...]
    value: nn.Parameter
    shape: tuple[int, ...]
    base: tuple[int, ...]
    grows: tuple[bool, ...]

    @property
    def name(self) -> str:
        return self.uses[0].name

    @property
    def matched(self) -> tuple[str, ...]:
        return tuple(use.name for use in self.uses)


def built(model: Built) -> nn.Module:
    """The module, or what its builder builds on the meta device, where it costs nothing."""
    if isinstance(model, nn.Module):
        return model
    with torch.device("meta"):
        return model()


def parameters(model: nn.Module, base: nn.Module, wider: nn.Module | None) -> tuple[list[Parameter], Pairing]:
    """Every parameter of the model in its order; `Refused` where the base or the wider model is of another family."""
    pairing = pair(model, base)
    others = [(pairing, dict(base.named_parameters(remove_duplicate=False)))]
    if wider is not None:
        others.append((pair(model, wider), dict(wider.named_parameters(remove_duplicate=False))))
    uses: dict[int, list[Use]] = {}
    values: dict[int, nn.Parameter] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        path = name.rpartition(".")[0]
        use = Use(
            name=name, owner=model.get_submodule(path), base_name=pairing.parameters[name],
            siblings=tuple(model.get_submodule(path.rpartition(".")[0])._modules), in_block=pairing.in_block(name),
        )  # fmt: skip
        uses.setdefault(id(value), []).append(use)
        values[id(value)] = value
    found = []
    for key, value in values.items():
        shapes = [tuple(named[names.parameters[uses[key][0].name]].shape) for names, named in others]
        for shape in shapes:
            if len(shape) != value.ndim:
                raise Refused(f"{uses[key][0].name} has shape {tuple(value.shape)}, in the base {shape}")
        grows = tuple(any(shape[axis] != size for shape in shapes) for axis, size in enumerate(value.shape))
        found.append(
            Parameter(uses=tuple(uses[key]), value=value, shape=tuple(value.shape), base=shapes[0], grows=grows)
        )
    return found, pairing


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """The names that a shell-style pattern matches; `*` crosses dots."""
    return [name for name in names if fnmatchcase(name, pattern)]


def modules_matching(model: nn.Module, patterns: Sequence[str], option: str) -> dict[str, nn.Module]:
    """The modules that the patterns name; `Refused` where one names none."""
    named = dict(model.named_modules())
    found = {}
    for pattern in patterns:
        names = matching(pattern, list(named))
        if not names:
            raise Refused(f"{option}={pattern!r} names no module: the modules are those of model.named_modules()")
        found.update({name: named[name] for name in names})
    return found


def unwrapped(name: str, known: Collection[str]) -> str:
    """The name that a parameter had before DDP, FSDP, torch.compile or activation checkpointing put theirs before it.

    >>> unwrapped("module._orig_mod.fc.weight", ["fc.weight"])
    'fc.weight'
    """
    if name in known:
        return name
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
