"""Which axis of a stored parameter is fan_in and which fan_out, by the class of the module that owns it.

A layout is a word for each axis: "in", "out", "stack" (members that are apart, such as experts) and "kernel" (fixed,
counts into fan_in). Axes that a layout leaves unnamed are kernel axes. A word may come twice: the fan is the product.
"""

from collections.abc import Sequence
from math import prod

from torch import nn

from scalelab.errors import Refused, unknown
from scalelab.models.tensors import Dim

WORDS = ("in", "out", "stack", "kernel")

# By class name along the method resolution order, so that nothing needs to be imported to be known.
BY_CLASS: dict[str, str] = {
    "Linear": "out in",
    "_ConvTransposeNd": "in out",
    "_ConvNd": "out in",
    "Embedding": "in out",
    "EmbeddingBag": "in out",
    "MultiheadAttention": "out in",
    "RNNBase": "out in",
    "RNNCellBase": "out in",
    "Conv1D": "in out",  # transformers.pytorch_utils: a linear map, stored the other way round
    "Stack": "stack out in",  # scalelab.networks.moe
}
LOOKUPS = ("Embedding", "EmbeddingBag")  # their input is ids: only their output can be multiplied


def classes(module: nn.Module) -> list[str]:
    """The names of a module's class and its bases."""
    return [each.__name__ for each in type(module).__mro__]


def layout_of(module: nn.Module) -> str | None:
    """The layout of a known class's weights."""
    return next((BY_CLASS[name] for name in classes(module) if name in BY_CLASS), None)


def parse(layout: str, shape: Sequence[int], name: str) -> tuple[str, ...]:
    """The word of each axis; `Refused` on an unknown word or more words than axes.

    >>> parse("out in", (64, 32, 3, 3), "conv.weight")
    ('out', 'in', 'kernel', 'kernel')
    """
    words = tuple(layout.split())
    for word in words:
        if word not in WORDS:
            raise unknown("word of a layout", word, WORDS)
    if len(words) > len(shape) or "out" not in words:
        raise Refused(f"layout {layout!r} of {name}, of shape {tuple(shape)}: at most a word for each axis, one 'out'")
    return words + ("kernel",) * (len(shape) - len(words))


def fans(words: Sequence[str], shape: Sequence[int], base: Sequence[int]) -> tuple[Dim, Dim]:
    """fan_in and fan_out, each at the target and at the base.

    >>> fans(("out", "in", "kernel"), (64, 32, 3), (16, 8, 3))
    (Dim(size=96, base=24), Dim(size=64, base=16))
    """

    def fan(*wanted: str) -> Dim:
        axes = [axis for axis, word in enumerate(words) if word in wanted]
        return Dim(prod(shape[axis] for axis in axes), prod(base[axis] for axis in axes))

    return fan("in", "kernel"), fan("out")
