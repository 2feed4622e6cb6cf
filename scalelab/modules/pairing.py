"""Which parameter of the base each parameter of the model corresponds to.

Two members of a family have the same modules, save for the number of items in their indexed containers (ModuleList,
Sequential: all children are named by numbers). Item i corresponds to item i; one that the other model does not have
corresponds to the item that it equals in shape in its own model, i modulo the count where that one does. Containers
that differ in length are the depth; those of a name with "expert" are the number of experts instead.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from torch import nn

from scalelab.errors import Refused
from scalelab.models.tensors import Dim


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Names of the model → names of the base, for modules and parameters; `blocks` are the repeated blocks' paths.

    `depths` gives the containers whose length differs, `deepened` their items, `experts` the lengths of those that hold
    experts.
    """

    parameters: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    blocks: list[str] = field(default_factory=list)
    depths: dict[str, Dim] = field(default_factory=dict)
    deepened: list[str] = field(default_factory=list)
    experts: dict[str, Dim] = field(default_factory=dict)

    def in_block(self, name: str) -> bool:
        """Whether a parameter or module sits in a repeated block."""
        return any(name.startswith(f"{block}.") for block in self.blocks)


def pair(model: nn.Module, base: nn.Module) -> Pairing:
    """The correspondence of two members of a family; `Refused` names the first thing that only one of them has."""
    found = Pairing()
    _walk(model, base, "", "", found)
    return found


def _walk(model: nn.Module, base: nn.Module, name: str, base_name: str, found: Pairing) -> None:
    found.modules[name] = base_name
    mine, theirs = ({k for k, p in each._parameters.items() if p is not None} for each in (model, base))
    _refuse_odd("parameter", name, mine, theirs)
    for leaf in mine:
        found.parameters[_joined(name, leaf)] = _joined(base_name, leaf)
    items, others = _children(model), _children(base)
    if _indexed(items) and _indexed(others):
        twins = _twins(name, list(items.values()), list(others.values()))
        _note_container(name, items, len(others), found)
        pairs = [(key, list(others)[twin]) for key, twin in zip(items, twins, strict=True)]
    else:
        _refuse_odd("module", name, items.keys(), others.keys())
        pairs = [(key, key) for key in items]
    for key, other in pairs:
        _walk(items[key], others[other], _joined(name, key), _joined(base_name, other), found)


def _note_container(name: str, items: dict[str, nn.Module], others: int, found: Pairing) -> None:
    count = Dim(len(items), others)
    differs = count.ratio != 1
    if "expert" in name.rpartition(".")[2]:
        if differs:
            found.experts[name] = count
        return
    if differs:
        found.depths[name] = count
        found.deepened.extend(_joined(name, key) for key in items)
    # Blocks, and not the layers of an MLP: one class, each made of modules. (Where the length differs, it is blocks.)
    alike = len({type(item) for item in items.values()}) == 1 and all(_children(item) for item in items.values())
    if differs or alike:
        found.blocks.extend(_joined(name, key) for key in items)


def _twins(name: str, items: Sequence[nn.Module], others: Sequence[nn.Module]) -> list[int]:
    """For each item of the model's container the index of its counterpart in the base's."""
    twins = [_twin(name, items, index, len(others)) for index in range(len(items))]
    for index in range(len(items), len(others)):
        _twin(name, others, index, len(items))  # refused where the base has a kind of block that the model has not
    return twins


def _twin(name: str, items: Sequence[nn.Module], index: int, count: int) -> int:
    if index < count:
        return index
    for candidate in (index % count, *reversed(range(count))):
        if _kind(items[candidate]) == _kind(items[index]):
            return candidate
    raise Refused(
        f"{name} has {len(items)} items against {count} in the other model, and item {index} is like none of the first"
        f" {count}: put repeated blocks into a container of their own, or give a base of the same depth"
    )


def _kind(module: nn.Module) -> tuple[object, ...]:
    return type(module).__name__, [(name, tuple(p.shape)) for name, p in module.named_parameters()]


def _children(module: nn.Module) -> dict[str, nn.Module]:
    return {name: child for name, child in module._modules.items() if child is not None}


def _indexed(children: dict[str, nn.Module]) -> bool:
    return bool(children) and all(name.isdigit() for name in children)


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _refuse_odd(what: str, where: str, mine: Set[str], theirs: Set[str]) -> None:
    if mine == theirs:
        return
    name = min(mine ^ theirs)
    owner = "model" if name in mine else "base"
    raise Refused(
        f"only the {owner} has {what} {_joined(where, name)!r}: the base must be of the model's family, with other"
        " sizes and numbers of blocks (call before wrapping in DDP or torch.compile)"
    )
