"""What an exporter is: a recipe in one framework's words, all of it, or a refusal naming what it cannot say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scalelab.exporters.handed import Handoff


@dataclass(frozen=True, kw_only=True)
class Export:
    """Files by name, and notes: what a reader must do, or know, that stands in no file. Notes go into the files too."""

    files: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """A target of `scalelab export`.

    `write` takes the run and the options that were given (all of `options`, with their defaults filled in) and raises
    `Refused` on what it cannot express or fold. `checked` says against which version of the framework it was validated,
    and how. `options` are what the framework needs and no recipe knows: name → (default, what it is).
    """

    title: str
    checked: str
    write: Callable[[Handoff, Mapping[str, str]], Export]
    options: Mapping[str, tuple[str, str]] = field(default_factory=dict)
