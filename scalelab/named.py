"""Classes by name, imported when one is asked for."""

from collections.abc import Mapping
from importlib import import_module

from scalelab.errors import unknown


def class_named(kind: str, name: str, classes: Mapping[str, str]) -> type:
    """The class of that name in a table of "module:Class"; `Refused` names the others."""
    if name not in classes:
        raise unknown(kind, name, classes)
    module, _, found = classes[name].partition(":")
    cls: type = getattr(import_module(module), found)
    return cls
